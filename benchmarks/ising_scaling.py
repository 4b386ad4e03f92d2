"""Finite-size scaling of the model whose answer is known, the Ising model on a square, at a precision for a table.

    python benchmarks/ising_scaling.py            # two minutes on one core
    python benchmarks/ising_scaling.py --small

Every number with its standard error, the truth, and how many of the one it is from the other. It needs numba.
"""

import argparse
import importlib.util
from pathlib import Path

import numpy as np

from softmode.estimate import Estimate
from softmode.finite_size.crossings import crossings
from softmode.finite_size.curves import Curves
from softmode.finite_size.exponents import power
from softmode.finite_size.scaling import OMEGA, joint_fit, scan

# measurements at each of the nine temperatures of a side
MEASUREMENTS = {6: 260_000, 8: 200_000, 12: 100_000, 16: 60_000, 24: 30_000, 32: 20_000, 48: 8_000}
SHRINK, UNITS, CLUSTERS = 100, 400, 3
NAMES = ("U4", "xi/L", "|m|", "chi")


def sampler():  # type: ignore[no-untyped-def]
    """Return the module that the tests sample the Ising model with."""
    path = Path(__file__).parents[1] / "tests" / "helpers" / "ising.py"
    spec = importlib.util.spec_from_file_location("ising", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(name: str, found: Estimate, truth: float) -> None:
    """Print a number beside the truth."""
    print(f"{name:<10} {found!s:>14} {truth:>10.5f} {(found.value - truth) / found.stderr:>6.1f}")


def main() -> None:
    """Sample, fit and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--small", action="store_true", help="few measurements, to see that it works")
    few = parser.parse_args().small
    ising, units = sampler(), UNITS // 10 if few else UNITS
    points = []
    for side, count in MEASUREMENTS.items():
        for x in np.linspace(-1.2, 1.2, 9):
            each = max(1, count // (SHRINK if few else 1) // units)
            points.append(ising.ising(side, ising.CRITICAL + x / side, units, each, CLUSTERS))
    curves = Curves.of(points, NAMES)
    both = curves.select("U4", "xi/L")
    print(f"{'':<10} {'found':>14} {'truth':>10} {'errors':>6}")
    fit = joint_fit(both, OMEGA[2])
    row("T_c", fit.t_c, ising.CRITICAL)
    row("nu", fit.nu, 1.0)
    row("U4*", fit.fixed["U4"], 0.61069)
    row("xi/L*", fit.fixed["xi/L"], 0.9050488)
    row("-beta/nu", power(curves, "|m|", fit, OMEGA[2], 4).exponent, -0.125)
    row("gamma/nu", power(curves, "chi", fit, OMEGA[2], 4).exponent, 1.75)
    print("without the smallest sides")
    for each in scan(both, OMEGA[2]):
        found = f"T_c {each.t_c}  nu {each.nu}  chi^2/dof {each.chi2:.0f}/{each.dof}  p {each.p_value:.2f}"
        print(f"L >= {each.sides[0]:<5} {found}")
    for name in ("U4", "xi/L"):
        for each in crossings(curves, name):
            pair = f"{name} of L = {each.sides[0]} and {each.sides[1]}"
            print(f"{pair} cross at T = {each.control}, where it is {each.value}")


if __name__ == "__main__":
    main()
