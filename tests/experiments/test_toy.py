"""A new experiment is a folder of four files and a line in the list: with an observable and a sampler of its own."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import softmode as sm
from helpers.errors import refused
from helpers.experiments import digests
from softmode.cli import main
from softmode.experiments import EXPERIMENTS, call
from softmode.runs.store import Store

CONFIG = '''
from dataclasses import dataclass
from typing import Annotated

from softmode.bounds import Bounds
from softmode.settings import Compute, Count, Steps


@dataclass(frozen=True, kw_only=True)
class Config(Compute):
    """Follow the flow of Gaussian data down the noise levels.

    Example: softmode toy --spread 2
    """

    spread: Annotated[float, Bounds(above=0, high=100)] = 1.0
    """Standard deviation of the data."""
    steps: Steps = 40
    """Steps of the flow."""
    trajectories: Count = 5
    """Independent trajectories."""
    block: Count = 2
'''

MEASURE = '''
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from softmode import VE, GaussianDenoiser, State, TrajectoryNoise, Variable, initial_state, log_grid, simulate
from softmode.bounds import check
from softmode.observe.state import along
from softmode.runs.experiment import Plan
from softmode.runs.layout import constant, layout
from toy.config import Config


@dataclass(frozen=True)
class Midpoint:
    """The probability flow dx/dsigma = (x - D)/sigma by the midpoint rule, on levels evenly spaced in log sigma."""

    name = "midpoint"
    convention = "ode"
    default_steps, default_every = 40, 1

    def ends(self, process):
        return 20.0, 0.1

    def grid(self, process, t_max, t_min, steps):
        return log_grid(t_max, t_min, steps)

    def calls(self, times):
        return torch.cat([torch.full((len(times) - 1,), 2), torch.zeros(1, dtype=torch.int64)])

    def check(self, process, times):
        pass

    def steps(self, denoiser, process, x, times, noise) -> Iterator[torch.Tensor]:
        for now, then in zip(times[:-1], times[1:]):
            middle = (now * then).sqrt()
            half = x + (x - denoiser(x, now)) * (middle / now - 1)
            x = x + (half - denoiser(half, middle)) * (then - now) / middle
            yield x


class Size:
    """The root mean square of a state over its sites."""

    variables = {"size": Variable((), "root mean square over sites", "1", "toy")}

    def __call__(self, state: State):
        return {"size": state.x.square().flatten(1).mean(1).sqrt().double()}


@dataclass(frozen=True, eq=False)
class ToyPlan(Plan):
    config: Config
    shrink = "steps"

    @property
    def times(self):
        return Midpoint().grid(VE(), *Midpoint().ends(VE()), self.config.steps)

    @property
    def identity(self):
        return {"model": {"name": "gaussian"}, "inputs": {}}

    @property
    def constants(self):
        return {
            "time": constant(self.times.numpy(), ("time",), "time of measurement", "process time"),
            "trajectory": constant(np.arange(self.config.trajectories), ("trajectory",), "trajectory index"),
        }

    @property
    def variables(self):
        sizes = {"trajectory": self.config.trajectories, "time": len(self.times)}
        return layout(sizes, along("time", Size()), self.config.dtype)

    def steps(self, pending):
        return len(pending) * self.config.steps

    def measure(self, block, advance=lambda: None):
        config = self.config
        noise = TrajectoryNoise(config.seed, block.trajectories, torch.device(config.device))
        start = initial_state(VE(), float(self.times[0]), noise, (1, 4, 4), getattr(torch, config.dtype))
        found = simulate(
            GaussianDenoiser(torch.full((4, 4), config.spread**2, dtype=torch.float64)), VE(), start, self.times,
            sampler=Midpoint(), observables=[Size()], measure_at=range(len(self.times)), on_step=advance,
        )
        return {"size": found.values["size"].numpy()}


def prepare(config, given=None):
    check(config)
    return ToyPlan(config)
'''

ANALYSE = """
from softmode import Estimate, Quantity, Results, Table, bootstrap


def analyse(run):
    size = run.dataset["size"].to_numpy()
    (ratio,) = bootstrap(size[:, -1:] / size[:, :1], lambda mean: mean, centre=lambda ratios: ratios.mean(0))
    return Results(
        answer=f"States shrink to {ratio} of their first size.",
        quantities=(Quantity("ratio", 0, ratio, "last size over the first", "", "toy"),),
        tables={"ratio": Table("Sizes", ("last over first", "steps"), ((ratio, run.config["steps"]),))},
    )
"""

FIGURES = """
from matplotlib.figure import Figure


def sizes(run):
    figure = Figure()
    figure.subplots().loglog(run.dataset["time"], run.dataset["size"].T)
    return figure


FIGURES = {"sizes": sizes, "nothing": lambda run: None}
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The toy's four files on the path, its line in the list, and a directory in which to work."""
    package = tmp_path / "package" / "toy"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    for name, source in {"config": CONFIG, "measure": MEASURE, "analyse": ANALYSE, "figures": FIGURES}.items():
        (package / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setitem(EXPERIMENTS, "toy", "toy")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield tmp_path / "work"
    for name in [name for name in sys.modules if name.partition(".")[0] == "toy"]:
        del sys.modules[name]


@pytest.mark.usefixtures("toy")
def test_it_is_a_command_with_help_and_checks(capsys: pytest.CaptureFixture[str]) -> None:
    """Listed with its first line; its help has its options and those that it shares; bad values are one line."""
    main([])
    assert "toy             Follow the flow of Gaussian data down the noise levels." in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["toy", "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    for words in ("softmode toy --spread 2", "--spread FLOAT", "Standard deviation of the data.", "--seed", "runs/toy"):
        assert words in printed
    for bad, message in (("0", "spread: got 0; expected above 0 and at most 100"), ("x", "spread: got 'x'")):
        with pytest.raises(SystemExit) as stop:
            main(["toy", "--spread", bad])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err


def test_it_runs_from_the_command_line(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Answer, table, report and figures; `softmode figures` draws them again; the file is opened by its path."""
    main(["toy", "--spread", "2", "--out", "X"])
    printed = capsys.readouterr().out
    run = sm.open("X")
    assert run.results.answer in " ".join(printed.split())
    for words in ("last over first", "X/report.html", "figures: sizes"):
        assert words in printed
    (toy / "X" / "figures" / "sizes.png").unlink()
    main(["figures", "X"])
    assert {path.name for path in (toy / "X" / "figures").iterdir()} == {"sizes.png", "sizes.pdf"}
    assert run.figures == ("sizes", "nothing")
    with refused("nothing to draw"):
        run.figure("nothing")
    assert run.config["spread"] == 2
    assert run.dataset["size"].dims == ("trajectory", "time")
    assert run.dataset["size"].attrs == {"long_name": "root mean square over sites", "units": "1", "source": "toy"}


@pytest.mark.usefixtures("toy")
def test_its_sampler_follows_the_known_flow() -> None:
    """x shrinks as sqrt(s^2 + sigma^2) for data of standard deviation s, with an error of second order in the step."""
    errors = []
    for steps in (20, 40, 80):
        data = call.toy(spread=2, steps=steps, dtype="float64").dataset
        exact = np.sqrt(4 + data["time"].to_numpy() ** 2)
        size = data["size"].to_numpy()
        errors.append(np.abs(size / size[:, :1] / (exact / exact[0]) - 1).max())
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(orders, 2, atol=0.2)
    assert errors[-1] < 1e-3


def test_it_resumes_where_it_was_interrupted(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine knows nothing of the toy, and yet the resumed run is bit-identical; other settings are refused."""
    whole = call.toy(out="whole")
    honest, written = Store.write, []

    def dies(store: Store, *arguments: object) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(arguments)
        honest(store, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        call.toy(out="cut")
    monkeypatch.setattr(Store, "write", honest)
    assert sm.open("cut").dataset.sizes["trajectory"] == 4
    with refused("out: .*spread"):
        call.toy(out="cut", spread=3)
    call.toy(out="cut")
    assert digests(toy / "cut") == digests(whole.directory)


@pytest.mark.usefixtures("toy")
def test_its_function_is_documented_and_checked() -> None:
    """Every setting is told in the docstring; a name that is none gets the nearest one."""
    text = call.toy.__doc__ or ""
    assert text.startswith("Follow the flow of Gaussian data down the noise levels.\n")
    assert "\n    spread: Standard deviation of the data.\n" in text
    with refused("spraed: is no setting; did you mean spread?"):
        call.toy(spraed=2)
    found = call.toy(trajectories=3)
    assert found.directory.exists()
    assert "States shrink" in repr(found)
