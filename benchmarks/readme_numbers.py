"""Make the numbers and the figures of README.md and docs/ that come from runs, and print them as the pages show them.

    python benchmarks/readme_numbers.py                       # everything: hours, most of them the pulses
    python benchmarks/readme_numbers.py --only critical_times window
    python benchmarks/readme_numbers.py --small --figures f   # tiny runs, to see that it works; figures go to f

Runs are kept in runs/docs: what is finished is not computed again, what was interrupted goes on. The tables are printed
as markdown, and the figures are copied to docs/.
"""

import argparse
import math
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

import softmode as sm
from softmode.estimate import Estimate
from softmode.experiments.call import call, experiment
from softmode.experiments.window import measure as window_parts
from softmode.observe import derivatives
from softmode.runs import draw
from softmode.runs.draw import save, styled
from softmode.runs.run import Run

ROOT = Path(__file__).parents[1]
# bytes of a figure in docs/, which a pre-commit hook limits
LARGEST = 1_000_000
LABELLED, BINARY = "fashion-mnist", "fashion-mnist-binary"
# noise level by which half of the class is known: softmode quality fashion-mnist --images 250 --precision bfloat16
HALF_KNOWN = 5.0

# noise levels at which the soft sectors are measured
SECTORS = (5.0, 2.3, 1.0)

# the runs of the pages: name -> experiment and its settings. {out} is the directory of all runs
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "binary16": ("probe", {"model": BINARY, "trajectories": 16}),
    "forward": ("probe", {"model": BINARY, "states": "forward", "trajectories": 64}),
    "grey": ("window", {"model": LABELLED}),
    "window": ("window", {"model": BINARY}),
    "theirs": ("window", {"model": "diffusers:runs/diffusers", "data": "runs/diffusers/held_out.npz",
                          "classifier": "fashion-mnist-classifier"}),
    "waves": ("instability", {"model": BINARY, "trajectories": 256, "growth": False}),
    **{f"sector-{model}-{sigma:g}": ("sector", {"model": model, "sigma": sigma})
       for model in (LABELLED, BINARY) for sigma in SECTORS},
    "validate": ("validate", {}),
    "clones": ("clones", {"model": LABELLED}),
    "patch": ("patch", {}),
    "small": ("patch", {"size": 64, "receptive_field": "box:3", "dictionary": "two-state", "t_max": 40.0, "t_min": 0.3,
                        "steps": 1500}),
    "pulse": ("pulse", {"model": LABELLED, "sigma_c": HALF_KNOWN, "trials": 10}),
    "chi": ("susceptibility", {"model": LABELLED, "method": "pulses", "sigma_c": HALF_KNOWN, "centres": 12, "trials": 6,
                               "steps": 64, "weight": 10.0,
                               "block": 20}),
}  # fmt: skip
# the quickest of the shipped networks
QUICK = "fashion-mnist-guide"
_GUIDED = {"model": QUICK, "classes": 2, "trials": 2, "steps": 8, "sigma_c": 3.0, "window": ""}
SMALL: dict[str, dict[str, Any]] = {
    "probe": {
        "model": QUICK,
        "trajectories": 2,
        "steps": 60,
        "t_max": 2.0,
        "measure_every": 30,
        "shells": 3,
        "snapshots": (1.0,),
    },
    "window": {
        "model": QUICK,
        "labels": (1, 5, 8),
        "trajectories": 3,
        "steps": 14,
        "shells": 3,
        "snapshots": (1.0,),
        "clones": 0,
    },
    "instability": {"model": QUICK, "trajectories": 8, "levels": 3},
    "sector": {"model": QUICK, "trajectories": 2, "modes": 2, "sigma": 1.0},
    "validate": {"nulls": 1, "transitions": 2, "quick": True},
    "clones": {"model": QUICK, "trajectories": 2, "steps": 30, "t_max": 1.0, "times": (0.5,)},
    "patch": {"size": 16, "steps": 100, "t_max": 5.0, "t_min": 0.1, "trajectories": 2, "shells": 3},
    "pulse": {**_GUIDED, "half_width": 2.0},
    "susceptibility": {**_GUIDED, "centres": 3, "lowest": 0.3, "width": 3.0},
}
# of the parts of a small window, whose noise levels are no settings of its own
SMALL_PARTS = {"known": {"levels": 12}, "soft": {"levels": 6}}

Row = Sequence[object]


def markdown(head: Row, rows: Sequence[Row]) -> str:
    heads, *lines = (f"| {' | '.join(map(str, line))} |" for line in (head, *rows))
    return "\n".join([heads, "|" + "---|" * len(head), *lines])


def with_interval(e: Estimate) -> str:
    """Return a value to the digits that its error leaves, with its interval: 4.8 [4.1, 5.5]."""
    if math.isnan(e.value):
        return "none"
    value = str(e).partition("(")[0]
    if not e.samples or math.isnan(e.low):
        return value
    digits = max(1, len(value.partition(".")[2]))
    return f"{value}{'?' if e.reason else ''} [{e.low:.{digits}f}, {e.high:.{digits}f}]"


def both(e: Estimate, digits: int = 2) -> str:
    """Return a difference with its error and its interval."""
    return f"{e} [{e.low:.{digits}f}, {e.high:.{digits}f}]"


def critical_times(runs: Mapping[str, Run]) -> list[str]:
    """README: the critical times of the binary network, sampled and on noised data, and where the bound is broken."""
    sampled, forward = runs["binary16"].results, runs["forward"].results
    null = sampled.values["null"]["xi_eq_gain"]
    peaks = ", ".join(f"{t:.2g}" for t in null) or "has no peak"
    wanted = (
        ("xi_x begins to grow", "growth_onset", ""),
        ("xi_eq peaks, convention-free", "xi_eq_gain_peak", peaks),
        ("xi_eq peaks, without the constant mode", "xi_eq_free_peak", "not measured"),
        ("xi_x grows fastest", "growth_peak", ""),
    )
    rows = [
        (what, *(with_interval(found[f"{kind}_1"].estimate) for found in (sampled, forward)), of_null)
        for what, kind, of_null in wanted
    ]
    bound = forward.tables["bound"]
    cells = [[f"{cell:.3g}" for cell in row] for row in bound.rows]
    return [
        sampled.answer,
        markdown(("critical time t", "sampled", "on noised data", "null model"), rows),
        f"{bound.title}: {bound.note}",
        *([markdown(bound.columns, cells)] if cells else []),
    ]


def window(runs: Mapping[str, Run]) -> list[str]:
    """docs/window.md: every criterion of the network of ten classes, and of the binary one."""
    found = []
    for name in ("grey", "window"):
        found += [runs[name].results.answer, criteria(runs[name]), *runs[name].results.notes]
    return found


def decisions(runs: Mapping[str, Run]) -> list[str]:
    """docs/decisions.md: what is known of the class, and the softest modes, as the two windows measured them."""
    gain = runs["window"].dataset["gain"].mean("trajectory").mean("axis").to_numpy()
    found = [f"largest mean gain of a shell of the binary network: {gain.max():.2f}"]
    for name, part in (("grey", "information"), ("grey", "instability"), ("window", "instability")):
        if (directory := runs[name].directory / part).is_dir():
            results = sm.open(directory).results
            rows = [(q.name, with_interval(q.estimate), q.what) for q in results.quantities]
            found += [f"{name}, {part}: {results.answer}", markdown(("quantity", "value", "what"), rows)]
            found += [markdown(table.columns, table.rows) for table in results.tables.values() if len(table.rows) < 10]
    return found


def waves(runs: Mapping[str, Run]) -> list[str]:
    """docs/decisions.md: the softest plane wave of the binary network beside its softest mode."""
    table = runs["waves"].results.tables["waves"]
    return [runs["waves"].results.answer, markdown(table.columns, table.rows), table.note]


def sector(runs: Mapping[str, Run]) -> list[str]:
    """docs/theory.md: the soft sectors of two networks at three noise levels."""
    kinds = (
        "eigenvalue",
        "soft",
        "alike",
        "sites",
        "overlap",
        "both_signs",
        "least_quartic",
        "defect",
        "antisymmetric",
    )
    found, rows = [], []
    for name in (name for name in runs if name.startswith("sector-")):
        results = runs[name].results
        found.append(f"{name}: {results.answer}")
        unstable = results.values["unstable"]
        rows.append((name, f"{unstable:.0%}", *(with_interval(results[kind].estimate) for kind in kinds)))
    return [*found, markdown(("run", "unstable", *kinds), rows)]


def validate(runs: Mapping[str, Run]) -> list[str]:
    """docs/window.md: the score card of every criterion."""
    results = runs["validate"].results
    tables = [part for table in results.tables.values() for part in (markdown(table.columns, table.rows), table.note)]
    return [results.answer, *tables, *results.notes]


def theirs(runs: Mapping[str, Run]) -> list[str]:
    """docs/window.md: every criterion of a network that diffusers trained."""
    return [runs["theirs"].results.answer, criteria(runs["theirs"]), *runs["theirs"].results.notes]


def criteria(run: Run) -> str:
    tables = run.results.tables
    sources = {row[0]: row[2] for row in tables["definitions"].rows}
    rows = []
    for title, sigma, _, ends in tables["criteria"].rows:
        cells = title, with_interval(sigma), ends
        rows.append(
            (*(f"**{cell}**" if cell and title.startswith("sigma_c") else cell for cell in cells), sources[title])
        )
    return markdown(("criterion", "sigma", "interval of its own", "source"), rows)


def patch(runs: Mapping[str, Run]) -> list[str]:
    """README: the times of the paper's patch model, and of the two-state model on 3x3 patches."""
    found = []
    for name in ("patch", "small"):
        rows = [(q.name, q.what, with_interval(q.estimate)) for q in runs[name].results.quantities]
        found.append(markdown((name, "what", "t"), rows))
    return found


def clones(runs: Mapping[str, Run]) -> list[str]:
    """docs/networks.md: from when on copies of trajectories of the network with classes agree."""
    rows = [(q.name, with_interval(q.estimate)) for q in runs["clones"].results.quantities]
    return [runs["clones"].results.answer, markdown(("agreement", "value"), rows)]


def pulses(runs: Mapping[str, Run]) -> list[str]:
    """docs/pulses.md: what every condition does, and the critical pulse minus each of them, pooled and by class."""
    run = runs["pulse"]
    values, total = run.results.values, run.dataset.sizes["trajectory"]
    conditions = [
        (f"`{c['name']}`", steps(c["guided_steps"]), f"{c['unguided_trials']} of {total}", c["probability"], c["logit"],
         c["top1"], c["change"], c["diversity_ratio"], c.get("frechet_change", ""))
        for c in values["conditions"]
    ]  # fmt: skip
    by = {(row["measure"], row["baseline"]): row for row in values["comparisons"]}
    compared = []
    for baseline in dict.fromkeys(row["baseline"] for row in values["comparisons"]):
        p, z, top = (by[measure, baseline] for measure in ("probability", "logit", "top1"))
        classes = [(e["estimate"].value, e["p"]) for e in p["by_class"]]
        higher, lower = (sum(s * v > 0 and q is not None and q < 0.05 for v, q in classes) for s in (1, -1))
        compared.append(
            (f"`{baseline}`", both(p["pooled"]), both(z["pooled"]), both(top["pooled"]), number(p["p_holm"]),
             f"{higher} of {len(classes)}" + (f" ({lower} below)" if lower else ""))
        )  # fmt: skip
    random = [by[measure, "random"]["by_class"] for measure in ("probability", "logit", "top1")]
    by_class = [
        (entries[0]["label"], *(cell for e in entries for cell in (interval(e["estimate"]), number(e["p"]))))
        for entries in zip(*random, strict=True)
    ]
    return [
        run.results.answer,
        markdown(
            ("condition", "steps guided", "trials without any", "p", "z", "top-1", "rms change",
             "diversity, of unguided", "Fréchet distance, change"), conditions,
        ),
        markdown(
            ("critical minus", "Δp", "Δz", "Δ top-1", "corrected p-value of Δp", "classes with Δp > 0 and p < 0.05"),
            compared,
        ),
        markdown(("class", "Δp", "p-value", "Δz", "p-value", "Δ top-1", "p-value"), by_class),
    ]  # fmt: skip


def susceptibility(runs: Mapping[str, Run]) -> list[str]:
    """docs/pulses.md: where guidance acts most."""
    run, short = runs["chi"], {"probability": "p", "logit": "z", "change": "rms change"}
    rows = [
        (f"chi of {name}", f"{(e := run.results[f'argmax_{measure}'].estimate)} {e.interval}",
         run.results[f"distance_{measure}"].estimate)
        for measure, name in short.items()
    ]  # fmt: skip
    return [run.results.answer, markdown(("", "largest at sigma", "log of that / sigma_c"), rows)]


def steps(guided: Mapping[str, Any]) -> str:
    spread = "" if guided["least"] == guided["most"] else f" ({guided['least']} to {guided['most']})"
    return f"{guided['mean']:.3g}{spread}"


def interval(e: Estimate) -> str:
    return f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]"


def number(p: float | None) -> str:
    return "" if p is None else f"{p:.2g}"


class Part(NamedTuple):
    """A part of the pages: its runs, what prints it, and its figures by their names in docs/, with run and name."""

    runs: tuple[str, ...]
    tables: Callable[[Mapping[str, Run]], list[str]]
    figures: Mapping[str, tuple[str, str]] = {}


PARTS = {
    "critical_times": Part(
        ("binary16", "forward"), critical_times,
        {"trained_network": ("binary16", "critical_dynamics"), "states": ("binary16", "states")},
    ),
    "patch": Part(("patch", "small"), patch, {"critical_dynamics": ("patch", "critical_dynamics")}),
    "clones": Part(("clones",), clones, {"clones": ("clones", "clones")}),
    "window": Part(("grey", "window"), window, {"window": ("grey", "window")}),
    "decisions": Part(
        ("grey", "window"), decisions,
        {"information": ("grey/information", "information"), "pairs": ("grey/information", "pairs"),
         "cascade": ("window/instability", "cascade"), "modes": ("window/instability", "modes")},
    ),
    "waves": Part(("waves",), waves, {"waves": ("waves", "waves")}),
    "sector": Part(
        tuple(name for name in RUNS if name.startswith("sector-")), sector,
        {"sector": (f"sector-{BINARY}-2.3", "sector"), "sector_modes": (f"sector-{LABELLED}-2.3", "modes")},
    ),
    "validate": Part(("validate",), validate, {"scores": ("validate", "scores")}),
    "theirs": Part(("theirs",), theirs),
    "pulses": Part(("pulse",), pulses, {"alignment": ("pulse", "alignment")}),
    "susceptibility": Part(("chi",), susceptibility, {"susceptibility": ("chi", "susceptibility")}),
}  # fmt: skip


def finished(name: str, out: Path, small: bool, made: dict[str, Run]) -> Run:
    """Return a run of the pages, computed as far as it is not there yet; of tiny ones that are alike, the first."""
    kind, settings = RUNS[name]
    settings = {key: value.format(out=out) if isinstance(value, str) else value for key, value in settings.items()}
    settings |= SMALL[kind] if small else {}
    alike = command(kind, settings, out)
    if alike not in made or not small:
        print(f"{name}: {command(kind, settings, out / name)}", file=sys.stderr, flush=True)
        made[alike] = call(experiment(kind), out / name, progress=sys.stderr.isatty(), **settings)
    return made[alike]


def command(kind: str, settings: Mapping[str, Any], out: Path) -> str:
    """Return the command that makes the same run."""
    words = [] if "model" not in settings else [settings["model"]]
    for key, value in settings.items():
        values = value if isinstance(value, tuple) else (value,)
        option = key.replace("_", "-")
        if isinstance(value, bool):
            words += [f"--{'' if value else 'no-'}{option}"]
        else:
            words += [] if key == "model" or value == "" else [f"--{option}", *map(str, values)]
    return shlex.join(["softmode", kind, *words, "--out", str(out)])


def copy_figure(run: Run, name: str, to: Path) -> None:
    """Draw a figure of a run and keep it as a PNG of at most LARGEST bytes.

    Raises:
        ValueError: If it stays larger.
    """
    with tempfile.TemporaryDirectory() as folder:
        figure = run.figure(name)
        with styled():
            (png,) = save(figure, Path(folder, name), ("png",))
        if png.stat().st_size > LARGEST:
            Image.open(png).convert("RGB").quantize(256).save(png, optimize=True)
        if png.stat().st_size > LARGEST:
            raise ValueError(f"figures: {to} would take {png.stat().st_size} bytes; expected at most {LARGEST}")
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(png, to)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="NAME", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "docs", help="directory of the runs")
    parser.add_argument("--figures", type=Path, default=ROOT / "docs", help="directory of the figures")
    parser.add_argument("--small", action="store_true", help="tiny runs that are not kept, to see that it works")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if chosen.small:
            draw.LAYOUTS = 1
            derivatives.TRIED = 1
            honest = window_parts._quick
            window_parts._quick = lambda config, part: honest(config, part) | SMALL_PARTS.get(part, {})
            if chosen.figures == ROOT / "docs":
                chosen.figures = Path(folder, "figures")
        out = Path(folder) if chosen.small else chosen.out
        runs, made = dict[str, Run](), dict[str, Run]()
        for name in chosen.only or PARTS:
            part = PARTS[name]
            if name == "theirs" and not Path("runs/diffusers").is_dir():
                print("theirs: left out, runs/diffusers is missing: run examples/train_with_diffusers.py first\n")
                continue
            runs |= {each: finished(each, out, chosen.small, made) for each in part.runs if each not in runs}
            print(f"## {name}: {(part.tables.__doc__ or '').strip()}\n")
            print("\n\n".join(part.tables(runs)), end="\n\n", flush=True)
            for file, (of, figure) in part.figures.items():
                run, _, inside = of.partition("/")
                shown = sm.open(runs[run].directory / inside) if inside else runs[run]
                copy_figure(shown, figure, chosen.figures / f"{file}.png")
                print(f"figure: {chosen.figures / file}.png\n", flush=True)


if __name__ == "__main__":
    main()
