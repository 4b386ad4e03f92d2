"""The Hartree theory of the frozen score's transition: times t = log(1 + sigma^2) for patches of several shapes.

    python benchmarks/hartree.py            # half a minute
    python benchmarks/hartree.py --small

Columns: tree level; noise of independent sites; the end of the symmetric state on a lattice of the given side without
its uniform mode, and on the infinite lattice; the end of the ordered state; its m.
"""

import argparse
import math

from softmode.formulas.hartree import critical_level, infinite_noise, noise, ordered_limit, shape
from softmode.lattice import ReceptiveField

SIDES, FEW = {1: 4096, 2: 256, 3: 48}, {1: 64, 2: 16, 3: 8}
FIELDS = ("box:3", "box:5", "box:7", "cross:1", "cross:2")


def time(sigma: float) -> str:
    """Return the time of VP at beta = 1, or a dash for no transition."""
    return f"{math.log1p(sigma**2):.3f}" if sigma > 0 else "-"


def main() -> None:
    """Print a row for every dimension and patch."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--small", action="store_true", help="small lattices, to see that it works")
    sides = FEW if parser.parse_args().small else SIDES
    print("d | patch | |Omega| | tree | sites | side | lattice | infinite | ordered | m")
    for dimensions, side in sides.items():
        for text in FIELDS:
            field = ReceptiveField.parse(text, dimensions)
            lattice = noise(shape(field, side), field.size, 1.0, zero_mode=False)
            levels = [critical_level(field.size, each) for each in (0.0, 1.0, lattice, infinite_noise(field, side))]
            tree, sites, finite, infinite = map(time, levels)
            end = ordered_limit(field, side)
            row = (dimensions, text, field.size, tree, sites, side, finite, infinite, time(end.sigma))
            print(*row, f"{end.magnetisation:.3f}", sep=" | ")


if __name__ == "__main__":
    main()
