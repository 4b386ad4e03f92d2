"""How the order of random dictionaries depends on what there is to choose: M, the frozen level, time, mass, disorder.

    python benchmarks/random_dictionaries.py --out runs/random      # some 20 minutes on one core; it resumes
    python benchmarks/random_dictionaries.py patterns --out runs/random     # one part of it
    python benchmarks/random_dictionaries.py --small

Each line is a run of softmode dictionary with 16 realisations on lattices of 16 and 32 sites a side.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import softmode as sm
from softmode.experiments.dictionary.verdict import VERDICTS

SETTINGS: dict[str, Any] = {"disorder": 16, "sizes": (16, 32)}
SMALL: dict[str, Any] = {
    "receptive_field": "box:3", "disorder": 2, "replicas": 4, "sizes": (6, 8), "t_max": 8.0, "steps": 170,
    "waits": (0.4, 2.0),
}  # fmt: skip
PARTS: dict[str, dict[str, dict[str, Any]]] = {
    "patterns": {f"M = {m}": {"patterns": m} for m in (1, 2, 4, 8, 16)},
    "levels": {f"level {level:g}": {"level": level} for level in (0.1, 0.3, 0.4)},
    "time": {"t_w = 800": {"waits": (4.0, 800.0)}},
    "masses": {"masses": {"uniform": (0.0, 0.05, 0.1, 0.2, 0.9)}},
    "site": {f"site, M = {m}": {"disorder_of": "site", "patterns": m} for m in (1, 8)},
}


def line(run: sm.Run, place: int) -> str:
    """Return what a run says of one mass: counts of verdicts, and means over disorder with their errors."""
    mass = float(run.dataset["mass"].to_numpy()[place])
    several = len(run.config["uniform"]) > 1
    counts = run.results.values["verdicts"][f"{mass:g}"]
    kinds = ("t_c", "susceptibility_samples", "susceptibility_frozen", "bragg_frozen", "overlap_frozen",
             "edwards_anderson")  # fmt: skip
    values = [str(run.results[f"{kind}_{place + 1}" if several else kind].estimate) for kind in kinds]
    return " | ".join([f"{mass:g}", *(str(counts[name]) for name in VERDICTS), *values])


def main() -> None:
    """Measure, and print a line for every run and mass."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("part", nargs="?", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--out", default="runs/random")
    parser.add_argument("--small", action="store_true", help="few realisations of small lattices, to see that it works")
    arguments = parser.parse_args()
    chosen = PARTS if arguments.part == "all" else {arguments.part: PARTS[arguments.part]}
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch if arguments.small else arguments.out)
        for part, runs in chosen.items():
            heads = [part, "uniform mass", *VERDICTS, "t_c", "N <q^2> samples", "frozen", "S(k)/N", "|q|", "q_EA"]
            print("\n" + " | ".join(heads))
            for number, (name, settings) in enumerate(runs.items()):
                small = SMALL if arguments.small else {}
                run = sm.dictionary(out=out / f"{part}-{number}", **SETTINGS | settings | small)
                for place in range(len(run.config["uniform"])):
                    print(f"{name} | {line(run, place)}", flush=True)


if __name__ == "__main__":
    main()
