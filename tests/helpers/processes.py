"""Commands in processes of their own, which can be started at a given moment and killed."""

import contextlib
import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from softmode.cli import main
from softmode.runs import draw, run

from .drawing import COARSE, quick

# a server that has imported everything forks at once: after imports of seconds no moment would mean anything
SERVER = multiprocessing.get_context("forkserver")
PATCH = (f"softmode.experiments.patch.{module}" for module in ("measure", "analyse", "figures"))
SERVER.set_forkserver_preload(["softmode.cli", "softmode.runs.report", "softmode.runs.html", *PATCH])


def start(arguments: Sequence[str], said: Path, when: float = 0.0) -> BaseProcess:
    """Start a command at a time on the clock, or at once; what it says goes to a file."""
    process = SERVER.Process(target=_command, args=(arguments, said, when))
    process.start()
    return process


def _command(arguments: Sequence[str], said: Path, when: float) -> None:
    # a process of its own: nothing to put back. Figures would take most of its time
    run.save, draw.STYLE["figure.dpi"] = quick, COARSE
    with said.open("w") as file, contextlib.redirect_stderr(file), contextlib.redirect_stdout(file):
        time.sleep(max(0.0, when - time.time()))
        main(list(arguments))
