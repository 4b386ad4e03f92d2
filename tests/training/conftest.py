"""Every network is tiny; two trainings are made once."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from softmode.training.train import run

sys.path.insert(0, str(Path(__file__).parent))
from small_training import (
    BINARY,
    CLASSIFIER,
    data,
    shrink,
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of CLASSIFIER, the quicker network, both epochs in one go."""
    out = tmp_path_factory.mktemp("finished") / "out"
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        run(CLASSIFIER, out, data(CLASSIFIER))
    return out


@pytest.fixture(scope="session")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of BINARY, one epoch."""
    out = tmp_path_factory.mktemp("denoiser") / "out"
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        run(replace(BINARY, epochs=1.0), out, data(BINARY))
    return out
