"""Every benchmark and every example runs small, as a user would run it."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import softmode as sm
from softmode.data import fashion_mnist

ROOT = Path(__file__).parents[1]
NUMBER = re.compile(r"(?<![\w.])-?(?:\d+\.?\d*(?:e[-+]?\d+)?|nan|inf)(?!\w)")
# script -> its parts: arguments, and how the lines with numbers begin that it must print
BENCHMARKS = {
    "adjoint_against_pulses.py": [
        ("mixture", ("probability | pulses, w -> 0 |", "probability | sweeps, w -> 0 |", "probability: times fewer"))
    ],
    "adjoint_memory.py": [("", ("softmode | 4 |", "softmode | 8 |", "plain autograd | 4 |"))],
    "attention_modes.py": [("", ("sigma",))],
    "bad_commands.py": [("", ("bad value", "no such command", "no such option"))],
    "hartree.py": [("", ("3 | cross:1", "2 | box:5", "1 | box:3"))],
    "ising_scaling.py": [
        ("", ("T_c", "nu", "U4*", "xi/L*", "-beta/nu", "gamma/nu", "L >= 6")),
        ("--box 5", ("L >= 16", "L >= 24")),
    ],
    "guidance.py": [("", ("begun from twins:", "from the start:"))],
    "frozen_transitions.py": [("", ("2 | box:3",))],
    "entropy_production.py": [("", ("box:5 | 1.00", "ten patterns | 1.00", "trajectory, box:3"))],
    "hostile_models.py": [("", ("unet.safetensors", "edm2.pkl", "dictionary.npz", "data.npz"))],
    "kills.py": [("", (" patch",))],
    "lattice_dynamics.py": [
        (
            "",
            ("  eager, shifted slices", "  softmode, three points", "  softmode, normal", "  eager, unfold",
             "  eager, conv2d"),
        )
    ],
    "other_packages.py": [("", ("k-diffusion: ", "denoising-diffusion-pytorch: ", "azula: ", "smalldiffusion: "))],
    "pipelines.py": [("", ("SD 1, 2 |", "SD 3 |"))],
    "patch_sampling.py": [
        ("", ("peak memory", "softmode ", "softmode, measuring", "unfold + einsum", "conv2d", "import softmode adds"))
    ],
    "random_dictionaries.py": [
        ("masses", ("masses | 0.9",)),
        ("site", ("site, M = 8 | 0",)),
    ],
    "readme_numbers.py": [
        (
            "",
            ("| xi_x grows fastest", "| growth of xi_x", "| sigma_half", "| extent_c", "| sector-", "| the window",
             "| `critical`", "| chi of p"),
        )
    ],
    "trained_networks.py": [
        ("gains", ("largest |mean difference|", "  sigma", "median over shells and noise levels")),
        ("probe", ("sampling", "ratio, median of")),
        (
            "labels",
            ("one label:", "ten, one call:", "ten, label by label:", "label by label takes", "largest difference"),
        ),
        ("training", ("plain float32 loop of F.4:", "recipe edm:", "recipe paper:", "bfloat16:")),
    ],
    "landau_langevin.py": [("", ("40.00 | ", "1.50 | "))],
    "disjoint_sets.py": [("", ("sigma_c", "low", "high", "spread", "sites"))],
    "schedule_against_grid.py": [("", ("fashion-mnist",))],
    "window_intervals.py": [("", ("sigma_lo, softest", "sigma_hi, softest", "sigma_lo, label", "sigma_c, label"))],
}  # fmt: skip
PARTS = [(name, *part) for name, parts in BENCHMARKS.items() for part in parts]


def printed(script: Path, *arguments: str) -> str:
    """Return what a script prints that ends well."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, str(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def numbers(line: str) -> list[float]:
    return [float(number) for number in NUMBER.findall(line)]


def needs_images() -> None:
    try:
        fashion_mnist("test", "grey")
    except ValueError as error:
        pytest.skip(str(error))


def test_every_script_is_here() -> None:
    """A new benchmark or example without an entry would not be run by any test."""
    assert {path.name for path in (ROOT / "benchmarks").glob("*.py")} == {*BENCHMARKS}
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == {"flow_of_digits.py", "train_with_diffusers.py"}


@pytest.mark.parametrize(("script", "part", "rows"), PARTS, ids=[f"{name} {part}".strip() for name, part, _ in PARTS])
def test_a_benchmark_prints_its_table(script: str, part: str, rows: tuple[str, ...]) -> None:
    """A benchmark that a change of names has broken is found here, not by whoever wants the number of the README."""
    if part == "training" or script == "disjoint_sets.py":
        needs_images()
    if script == "other_packages.py":
        pytest.importorskip("azula.denoise")
    lines = printed(ROOT / "benchmarks" / script, *part.split(), "--small").splitlines()
    for row in rows:
        found = [numbers(line.removeprefix(row)) for line in lines if line.startswith(row)]
        assert found, f"no line begins with {row!r} in {lines}"
        assert all(values and all(map(math.isfinite, values)) for values in found), (row, lines)


def test_the_example_trains_a_pipeline_that_softmode_reads(tmp_path: Path) -> None:
    """The example of diffusers' own training ends in a model with held-out images of its own."""
    pytest.importorskip("diffusers")
    needs_images()
    example = ROOT / "examples" / "train_with_diffusers.py"
    (line,) = printed(example, "--images", "64", "--epochs", "1", "--out", str(tmp_path)).splitlines()
    assert line.startswith("epoch 1: loss")
    assert all(map(math.isfinite, numbers(line)))
    from softmode.networks.load import load_model

    assert load_model(f"diffusers:{tmp_path}").shape == (1, 28, 28)
    assert (tmp_path / "held_out.npz").stat().st_size > 0


def test_the_example_of_a_flow_gets_from_weights_to_a_window_and_a_pulse(tmp_path: Path) -> None:
    """A labelled flow network of one's own is answered for: with its own posterior, as no classifier is named."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 28, 28)).astype(np.uint8)
    np.savez(tmp_path / "mnist.npz", images=pixels, labels=np.arange(64) % 10)
    example, out = ROOT / "examples" / "flow_of_digits.py", tmp_path / "out"
    said = printed(example, "--data", str(tmp_path / "mnist.npz"), "--steps", "8", "--tiny", "--out", str(out))
    assert said.startswith("step 8: loss")
    window, pulse = (sm.open(out / name, name) for name in ("window", "pulse"))
    assert (window.results.answer in said, pulse.results.answer in said) == (True, True)
    # a network that has learned nothing
    assert window.results.answer.startswith("no critical window found")
    measure = example.read_text().partition("def measure")[2].partition("\n\n\n")[0].splitlines()
    assert len([line for line in measure if line.startswith("    ") and '"""' not in line]) <= 5
