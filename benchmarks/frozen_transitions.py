"""Where frozen patch models order, by patch and dimension: the table and the figure of docs/phase.md.

Runs `softmode equilibrium` for every row that DIR does not hold yet (two hours on one core; what is interrupted
resumes), and compares with tree level, with the noise of independent sites and with the Hartree theory.

    python benchmarks/frozen_transitions.py --out runs/transitions --figure transitions.png
    python benchmarks/frozen_transitions.py --small      # one row of small lattices, to see that it works
"""

import argparse
import math
import tempfile
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

import softmode as sm
from softmode.formulas import hartree
from softmode.lattice import ReceptiveField
from softmode.plots.palette import VERMILLION
from softmode.runs.draw import save, styled

# name -> receptive field, dimensions, dictionary, sides, error
ROWS: dict[str, tuple[str, int, str, tuple[int, ...], float]] = {
    "cross1": ("cross:1", 2, "two-state", (12, 16, 24, 32), 0.008),
    "box3": ("box:3", 2, "two-state", (12, 16, 24, 32, 48), 0.005),
    "box5": ("box:5", 2, "two-state", (16, 24, 32, 48, 64, 96, 128), 0.002),
    "box7": ("box:7", 2, "two-state", (16, 24, 32, 48, 64), 0.005),
    "box3d3": ("box:3", 3, "two-state", (6, 8, 12, 16), 0.005),
    "paper": ("box:5", 2, "paper", (16, 24, 32), 0.01),
}
SMALL = {"box3": ("box:3", 2, "two-state", (6, 8, 10), 0.19)}


def measured(folder: Path, rows: dict[str, tuple[str, int, str, tuple[int, ...], float]]) -> list[dict[str, object]]:
    found = []
    print(
        "d | patch | dictionary | |Omega| | tree | sites | Hartree | t_c | sigma_c/sqrt|Omega| | U4* | nu | chi^2/dof"
    )
    for name, (field, dimensions, dictionary, sizes, error) in rows.items():
        place = folder / name
        run = sm.open(place) if (place / "summary.json").exists() else sm.equilibrium(
            receptive_field=field, dimensions=dimensions, dictionary=dictionary, sizes=sizes, error=error, minutes=600,
            out=place,
        )  # fmt: skip
        omega = ReceptiveField.parse(field, dimensions)
        tree = run.results.values["tree"]
        sites = math.log1p(hartree.critical_level(omega.size, 1.0) ** 2)
        ordered = math.log1p(hartree.ordered_limit(omega, 48 if dimensions == 3 else 256).sigma ** 2)
        head = f"{dimensions} | {field} | {dictionary} | {omega.size} | {tree:.3f} | {sites:.3f} | {ordered:.3f}"
        if "t_c" not in run.results:
            print(f"{head} | none | | | |")
            continue
        t_c, fit = run.results["t_c"], run.results.tables["fits"]
        share = t_c.level / math.sqrt(omega.size)
        row = [str(run.results[kind].estimate) for kind in ("t_c", "U4_star", "nu")]
        chosen = run.results.values["smallest"]
        misfit = next(cells[5] for cells in fit.rows if cells[0] == chosen)
        print(f"{head} | {row[0]} | {share:.3f} | {row[1]} | {row[2]} | {misfit}", flush=True)
        found.append({"size": omega.size, "d": dimensions, "dictionary": dictionary, "tree": tree, "sites": sites,
                      "ordered": ordered, "t_c": t_c.estimate, "field": field})  # fmt: skip
    return found


def draw(ax: Axes, found: list[dict]) -> None:  # type: ignore[type-arg]
    flat = sorted((row for row in found if row["d"] == 2 and row["dictionary"] == "two-state"), key=lambda r: r["size"])
    sizes = [row["size"] for row in flat]
    for kind, style, label in (
        ("tree", "k-", r"tree level, $\log(1 + |\Omega|)$"),
        ("sites", "k--", "noise of independent sites"),
        ("ordered", "k:", "Hartree, end of order"),
    ):
        ax.plot(sizes, [row[kind] for row in flat], style, label=label, linewidth=1.6)
    times, errors = ([getattr(row["t_c"], part) for row in flat] for part in ("value", "stderr"))
    ax.errorbar(sizes, times, errors, fmt="o", color=VERMILLION, markersize=7, label="measured, d = 2")
    for row in flat:
        ax.annotate(row["field"], (row["size"], row["t_c"].value), xytext=(6, -14), textcoords="offset points",
                    fontsize=12)  # fmt: skip
    ax.set_xscale("log")
    ax.set_xlim(sizes[0] / 1.2, sizes[-1] * 1.5)
    ax.set_xlabel(r"sites of the patch, $|\Omega|$")
    ax.set_ylabel("time $t_c$ at which the frozen score orders")
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()
    ax.legend()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/transitions"))
    parser.add_argument("--figure", type=Path, help="where to draw t_c against the size of the patch, a .png")
    parser.add_argument("--small", action="store_true", help="one row of small lattices, to see that it works")
    chosen = parser.parse_args()
    if chosen.small:
        with tempfile.TemporaryDirectory() as folder:
            measured(Path(folder), SMALL)
        return
    found = measured(chosen.out, ROWS)
    if chosen.figure:
        with styled():
            figure = Figure(figsize=(8, 5.6), layout="constrained")
            draw(figure.subplots(), found)
            save(figure, chosen.figure.with_suffix(""), ("png",))


if __name__ == "__main__":
    main()
