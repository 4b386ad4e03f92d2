"""Which objects of other packages softmode reads, and how far its denoisers are from their own samplers.

    python benchmarks/other_packages.py          # every object
    python benchmarks/other_packages.py --small  # one of each package

The packages must be there: pip install --no-deps -r tests/packages.txt. For each object a tiny random one is built, and
its own sampler takes some steps. A row says how many steps were compared; the largest difference between what its
network is called with there and by softmode, of an argument's largest number; and the largest difference of D from the
estimate of x_0 that the sampler forms, of the largest number of that or of the state. The last column is of the same
for no class, where it has classes.
"""

import argparse
import importlib.metadata
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.other_packages import OBJECTS
from helpers.packages import differences

PACKAGES = ("k-diffusion", "denoising-diffusion-pytorch", "azula", "smalldiffusion")


def row(name: str) -> str:
    """Return the row of an object."""
    chosen = OBJECTS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = differences(chosen, 1 if chosen.classes else None)
        told = f"{name} | {found.steps} | {found.given:.1e} | {found.denoised:.1e}"
        if not chosen.classes:
            return f"{told} | no classes"
        try:
            none = differences(chosen, None)
        except ValueError:
            return f"{told} | knows no sample of all {chosen.classes} classes"
    return f"{told} | {none.given:.1e}, {none.denoised:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="one object of each package")
    small = parser.parse_args().small
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES))
    print("object | steps | network's arguments | D | both, of no class")
    for package in PACKAGES:
        names = [name for name in OBJECTS if name.startswith(f"{package}: ")]
        for name in names[:1] if small else names:
            print(row(name), flush=True)


if __name__ == "__main__":
    main()
