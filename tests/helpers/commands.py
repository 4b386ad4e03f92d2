"""The command line inside a test: what it prints, and a model of one's own that it can name."""

from pathlib import Path

import pytest

from softmode.cli import main

# two opposite smooth fields of 12x12 sites, in classes of their own
ZOO = """
import torch
import softmode as sm

def model():
    field = (torch.cos(torch.arange(12) * 0.5235988).expand(12, 12) + 1.2).double()
    data = torch.stack([field, -field]).unsqueeze(1)
    bind = lambda label: sm.EmpiricalDenoiser(data if label is None else data[[label]])
    return sm.Model("two", sm.VE(), (1, 12, 12), bind, classes=2, binary=True)

def patches():
    exact = sm.TwoStatePatch(sm.ReceptiveField.box(3))
    return sm.Model("patches", sm.VP(), (1, 8, 8), lambda label: exact, binary=True)
"""


class Terminal:
    """A terminal of some width, in an empty directory."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def run(self, *arguments: str) -> str:
        """Run a command that succeeds and return what it prints."""
        main(list(arguments))
        return self.capsys.readouterr().out

    def refuse(self, *arguments: str) -> str:
        """Run a command that must end with exit code 2 and one line, and return that line."""
        before = sorted(Path().rglob("*"))
        with pytest.raises(SystemExit) as stop:
            main(list(arguments))
        printed = self.capsys.readouterr()
        assert stop.value.code == 2, printed.err
        assert not printed.out
        line = printed.err.removesuffix("\n")
        assert line.startswith("error ")
        assert line.isprintable(), "one line, and nothing that steers a terminal"
        assert len(line) <= 306
        assert sorted(Path().rglob("*")) == before, "nothing is written"
        return line.removeprefix("error ")
