"""Finite-size scaling of the model whose answer is known, the Ising model on a square, at a precision for a table.

    python benchmarks/ising_scaling.py            # two minutes on one core
    python benchmarks/ising_scaling.py --small
    python benchmarks/ising_scaling.py --box 5    # eight minutes: the control of patches of five by five

With --box every spin is coupled to all others in a box around it, as sites of a patch model are: the class is Ising's
all the same, and what a fit finds otherwise on these sides is the range of the coupling.

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
# the same of a box, at seven temperatures, on sides as those of a frozen patch model
OF_BOX = {16: 100_000, 24: 60_000, 32: 40_000, 48: 22_000, 64: 14_000, 96: 8000, 128: 6000}
# shares of the mean-field temperature between which that of a box is sought, and by what U4 is to change
SOUGHT, HALVINGS, CHANGE = (0.5, 1.0), 9, 0.07
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


def near_critical(ising, neighbours) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """Return about the critical temperature, and how far from it, times the side, U4 changes by CHANGE."""

    def seen(name: str, side: int, temperature: float) -> float:
        point = ising.ising(side, temperature, 60, 30, CLUSTERS, 1, neighbours)
        return float(point.observables()[name].value)

    low, high = (share * len(neighbours) for share in SOUGHT)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        ordered = seen("xi/L", 32, middle) > seen("xi/L", 16, middle)
        low, high = (middle, high) if ordered else (low, middle)
    critical = (low + high) / 2
    slope = (seen("U4", 32, 0.98 * critical) - seen("U4", 32, 1.02 * critical)) / (0.04 * critical) / 32
    return critical, CHANGE / slope


def of_box(side: int, small: bool) -> None:
    """Sample the model of a box, fit it as softmode equilibrium does, and print."""
    ising, units = sampler(), 200 // (10 if small else 1)
    neighbours = ising.box(side)
    critical, width = near_critical(ising, neighbours)
    sizes = {L: count // (100 if small else 1) for L, count in OF_BOX.items() if not small or L < 64}
    points = [
        ising.ising(L, critical + x * width / L, units, max(1, count // units), CLUSTERS, 0, neighbours)
        for L, count in sizes.items()
        for x in np.linspace(-1, 1, 7)
    ]
    print(f"{len(neighbours)} neighbours")
    for each in scan(Curves.of(points, NAMES).select("U4", "xi/L"), OMEGA[2]):
        fixed = ", ".join(f"{name}* {value}" for name, value in each.fixed.items())
        print(f"L >= {each.sides[0]:<5} T_c {each.t_c}  nu {each.nu}  {fixed}  chi^2/dof {each.chi2:.0f}/{each.dof}")


def main() -> None:
    """Sample, fit and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--small", action="store_true", help="few measurements, to see that it works")
    parser.add_argument("--box", type=int, default=0, help="odd side of the box of neighbours; the nearest alone if 0")
    chosen = parser.parse_args()
    few = chosen.small
    if chosen.box:
        of_box(chosen.box, few)
        return
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
