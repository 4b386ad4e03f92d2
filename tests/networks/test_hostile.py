"""Damaged and hostile files of every family: none executes anything, and each loads or is refused in one short line."""

import importlib.util
import random
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "hostile_models.py"
COUNT = 60


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script that does the same with thousands of files."""
    spec = importlib.util.spec_from_file_location("hostile_models", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_valid_files_load(script: ModuleType, tmp_path: Path) -> None:
    """What is changed below loads when it is not, so that a refusal is the change's."""
    for name, content in script.samples().items():
        (tmp_path / f"0-{name}").write_bytes(content)
        assert script.outcome(str(tmp_path / f"0-{name}")) == "loaded", name


def test_changed_files_load_or_are_refused(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes, JSON, opcodes and headers; the files that would run a command if they were unpickled are among them."""
    monkeypatch.chdir(tmp_path)
    valid, canary, found = script.samples(), tmp_path / "executed", []
    for i in range(COUNT):
        name = list(valid)[i % len(valid)]
        path = tmp_path / f"{i}-{name}"
        path.write_bytes(script.mutate(name, valid[name], random.Random(f"7 {i}"), str(canary)))
        found.append(script.outcome(str(path)))
        assert found[-1] in ("loaded", "refused"), name
        path.unlink()
    assert not canary.exists()
    assert found.count("refused") > COUNT // 2
