"""What a finished run says of itself, and of what was put into it."""

import os
from pathlib import Path

import pytest

import softmode as sm
from softmode.runs.engine import outlook


@pytest.mark.filterwarnings("ignore")
def test_a_finished_run(tmp_path: Path) -> None:
    """Its blocks are promised to a resume, its quantities can be looped over, and a pipe in its store is refused."""
    out = tmp_path / "run"
    assert outlook(out) == "the same command resumes, with 0 finished blocks kept"
    run = sm.patch(
        size=16, receptive_field="box:3", steps=100, t_max=5.0, t_min=0.1, trajectories=2, block=1, shells=3, out=out
    )
    assert outlook(out) == "the same command resumes, with 2 finished blocks kept"
    names = [quantity.name for quantity in run.results]
    assert len(run.results) == len(names) > 0
    assert names[0] in run.results
    assert "no such quantity" not in run.results
    assert repr(run.results).startswith(run.results.answer)
    with pytest.raises(ValueError, match=r"experiment: got 'window'; .* is of patch"):
        sm.open(out, "window")
    os.mkfifo(out / "run.zarr" / "pipe")
    with pytest.raises(ValueError, match=r"pipe.*no regular file"):
        sm.open(out).store.verify()
