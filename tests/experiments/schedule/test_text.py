"""A schedule of a pipeline of text, without a classifier, and its Python for diffusers."""

from pathlib import Path

import pytest

from softmode.cli import main


def test_a_pipeline_of_text_gets_its_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], unchecked_shapes: None
) -> None:
    """From a file of prompts to weights that its own loop follows."""
    pytest.importorskip("diffusers")
    from helpers.pipelines import stable_diffusion

    stable_diffusion().save_pretrained(tmp_path / "pipe")
    (tmp_path / "prompts.txt").write_text("a tench\na castle\n")
    monkeypatch.chdir(tmp_path)
    few = "--trials 1 --search-trials 1 --steps 3 --guided-steps 1 --block 4 --out run"
    main(["schedule", "diffusers:pipe", "--prompts", "prompts.txt", "--classifier", "none", *few.split(),
          "--alignment", "change", "--format", "diffusers"])  # fmt: skip
    printed = capsys.readouterr().out
    compile(printed, "printed", "exec")
    assert "with guided_by(pipe, schedule" in printed
