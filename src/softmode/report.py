"""Tables for the terminal: the critical quantities of a run, and the theory of a patch model."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from softmode.config import TheoryConfig
from softmode.estimate import Estimate
from softmode.exact.dictionary import PatchDictionary, parse_dictionary
from softmode.lattice import ReceptiveField
from softmode.networks.card import read_card
from softmode.networks.shipped import find_weights, shipped_names
from softmode.process import Process, parse_process
from softmode.store import Run
from softmode.theory import landau


def estimate_of(quantity: Mapping[str, Any]) -> Estimate:
    """Return the estimate of one stored quantity; null becomes NaN."""
    numbers = {
        name: math.nan if quantity[name] is None else quantity[name] for name in ("value", "stderr", "low", "high")
    }
    return Estimate(**numbers, samples=quantity["samples"], reason=quantity["reason"])


def print_quantities(run: Run) -> None:
    """Print every critical time of a finished run, latest in generation last, with its 95 % interval."""
    summary = run.summary
    table = Table(title=f"critical times of {run.directory}", title_justify="left")
    for column in ("t", "95 % interval", "sigma/alpha", "name", "what"):
        table.add_column(column, no_wrap=column != "what", min_width=19 if column == "name" else None)
    for quantity in sorted(summary["quantities"], key=lambda q: -(q["value"] or -math.inf)):
        estimate = estimate_of(quantity)
        interval = "none" if math.isnan(estimate.low) else f"\\[{estimate.low:.3g}, {estimate.high:.3g}]"
        interval = "exact" if estimate.samples == 0 and math.isfinite(estimate.value) else interval
        note = f" ({estimate.reason})" if estimate.reason else ""
        value = str(estimate) if math.isfinite(estimate.value) else "none"
        level = f"{quantity['noise_level']:.3g}" if math.isfinite(estimate.value) else ""
        table.add_row(value, interval, level, quantity["name"], quantity["definition"] + note)
    console = Console()
    console.print(table)
    trajectories = summary["config"]["trajectories"]
    if trajectories < 6:
        bound = 100 * (1 - 2.0 ** (1 - trajectories))
        text = f"with {trajectories} trajectories no interval of a median covers more than {bound:.0f} %: use 6 or more"
        console.print(text, highlight=False)
    for name, bands in summary["undefined"]["bands"].items():
        text = ", ".join(f"[{last:.3g}, {first:.3g}]" for first, last in bands)
        if text:
            console.print(f"{name} is undefined for t in {text}", highlight=False, markup=False)


def print_probe(run: Run) -> None:
    """Print what a probe says beside its critical times: the response's structure, the null, the bound, the cost."""
    summary, console = run.summary, Console()
    table = Table(title="response of D to a push, by noise level (paper C.1)", title_justify="left")
    for column in ("sigma/alpha", "Omega", "its t_c", "radius", "antisym.", "shift err.", "odd err."):
        table.add_column(column, justify="right", no_wrap=True)
    for row in summary["locality"]:
        t_c = "none" if row["t_c"] is None else f"{row['t_c']:.3g}"
        names = ("omega", "radius", "antisymmetric", "equivariance", "oddness")
        omega, *measured = (_short(estimate_of(row[name])) for name in names)
        table.add_row(f"{row['sigma']:.3g}", omega, t_c, *measured)
    console.print(table)
    for line in (*_null_lines(summary), *_bound_lines(summary), _cost_line(summary)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _short(estimate: Estimate) -> str:
    return str(estimate) if math.isfinite(estimate.value) else "none"


def _null_lines(summary: Mapping[str, Any]) -> list[str]:
    if "null" not in summary:
        return ["null model: none, as the model came without data; name some with --data"]
    peaks = {name: [f"{t:.3g}" for t in times] for name, times in summary["null"]["peaks"].items()}
    found = "; ".join(f"{name} peaks at t = {', '.join(times)}" for name, times in peaks.items() if times)
    return [f"null model (Gaussian with the data's power spectrum): {found or 'xi_eq has no peak'}"]


def _bound_lines(summary: Mapping[str, Any]) -> list[str]:
    bound = summary.get("bound", {})
    if not bound:
        return []
    if not bound["checked"]:
        return [f"bound G <= S/(S + sigma^2): not checked, {bound['reason']}"]
    if not bound["violations"]:
        return [f"bound G <= S/(S + sigma^2): holds at all {bound['comparisons']} modes and noise levels"]
    lines = ["bound G <= S/(S + sigma^2): exceeded beyond 4 standard errors, an error of the learned score, in"]
    for v in bound["violations"]:
        band = f"sigma {v['sigma_to']:.3g} to {v['sigma_from']:.3g}"
        lines.append(f"  shell {v['shell']}, {band}, by up to {v['excess']:.2g}")
    return lines


def _cost_line(summary: Mapping[str, Any]) -> str:
    spent = summary["evaluations"]
    parts = ", ".join(f"{name} {spent[name]}" for name in ("sampling", "gains", "locality"))
    return f"network evaluations: {parts}, in all {spent['total']}; {summary['wall_seconds']:.0f} s"


def print_clones(run: Run) -> None:
    """Print the agreement of copies at every time of copying, and when it passes the threshold."""
    summary, console = run.summary, Console()
    kinds = list(summary["agreement"])
    table = Table(title=f"agreement of copies, mean over trajectories, of {run.directory}", title_justify="left")
    for column in ("t*", "sigma/alpha", *kinds):
        table.add_column(column, justify="right")
    levels = run.arrays["copy_level"].to_numpy()
    for i, t in enumerate(run.arrays["copy_time"].to_numpy()):
        agreements = (str(estimate_of(summary["agreement"][kind][i])) for kind in kinds)
        table.add_row(f"{t:.3g}", f"{levels[i]:.3g}", *agreements)
    console.print(table)
    for at, level in zip(summary["quantities"], summary["noise_levels"], strict=True):
        estimate = estimate_of(at)
        interval = f" [{estimate.low:.3g}, {estimate.high:.3g}]" if math.isfinite(estimate.low) else ""
        note = f" ({estimate.reason})" if estimate.reason else ""
        found = f"t = {estimate}{interval}, sigma/alpha = {estimate_of(level)}{note}"
        line = found if math.isfinite(estimate.value) else f"none: {estimate.reason}"
        console.print(f"{at['definition']}: {line}", highlight=False, markup=False, soft_wrap=True)
    spent = summary["evaluations"]
    parts = ", ".join(f"{name} {spent[name]}" for name in ("trajectories", "copies"))
    cost = f"network evaluations: {parts}, in all {spent['total']}"
    console.print(f"{cost}; {summary['wall_seconds']:.0f} s", highlight=False)


def print_window(run: Run, window: Mapping[str, Any], units: Sequence[tuple[str, str]] = ()) -> None:
    """Print every notion of a window on one scale, then the answer, also in a pipeline's units, and what to do next."""
    console = Console()
    table = Table(title=f"noise levels of {run.directory} at which a sample is decided", title_justify="left")
    for column in ("sigma/alpha", "95 % interval", "its window", "notion"):
        table.add_column(column, no_wrap=column != "notion")
    rows = [*window["notions"]]
    if window["sigma_c"]["value"] is not None:
        ends = [window["sigma_lo"]["value"], window["sigma_hi"]["value"]]
        first = {"name": "critical", "definition": "peak of the median xi_eq", "source": "paper G.7, H.3"}
        rows.append(window["sigma_c"] | first | {"interval": ends})
    for row in sorted(rows, key=lambda row: -(row["value"] or -math.inf)):
        estimate = estimate_of(row)
        low, high = row["interval"]
        shown = "" if low is None or high is None else f"{low:.3g} to {high:.3g}"
        interval = "none" if math.isnan(estimate.low) else f"\\[{estimate.low:.3g}, {estimate.high:.3g}]"
        value = str(estimate) if math.isfinite(estimate.value) else "none"
        note = f" ({estimate.reason})" if estimate.reason else ""
        table.add_row(value, interval, shown, f"{row['name']}: {row['definition']} ({row['source']}){note}")
    console.print(table)
    for remark in window["remarks"]:
        console.print(f"note     {remark}", highlight=False, soft_wrap=True)
    if window["verdict"] != "none":
        begin, end = window["times"]["begin"], window["times"]["end"]
        rows = [("time", f"{end:.4g} < t <= {begin:.4g}, of the process"), *units]
        for unit, text in rows:
            console.print(f"{'in ' + unit:<12} {text}", highlight=False, soft_wrap=True)
    console.print(f"[bold]answer[/]   {escape(window['answer'])}", highlight=False, soft_wrap=True)
    if window["verdict"] != "none":
        console.print(
            f"next     softmode window {run.directory} --format json (or sigmas, comfyui, diffusers)",
            highlight=False, soft_wrap=True,
        )  # fmt: skip


def print_models() -> None:
    """Print the shipped models: name, data, classes, training, quality, size, and where the weights are."""
    table, files = Table(title="models", title_justify="left"), []
    for column in ("name", "data", "classes", "epochs"):
        table.add_column(column, no_wrap=True)
    table.add_column("held out", max_width=8)
    for name in shipped_names():
        path = find_weights(name)
        card = read_card(path)
        measured = card.held_out
        quality = f"accuracy {measured['accuracy']:.4f}" if "accuracy" in measured else f"loss {measured['mean']:.4f}"
        size = f"{path.stat().st_size / 2**20:.1f} MiB"
        data = f"{card.data},\n{card.values}"
        table.add_row(name, data, str(card.classes or "none"), f"{card.epochs:.3g}", quality)
        files.append(f"weights  {path}, {size}")
    console = Console()
    console.print(table)
    for file in files:
        console.print(file, highlight=False, soft_wrap=True)
    console.print(
        "a MODEL is one of these names, a path made by softmode train, edm2:file, diffusers:path-or-hub-id, "
        "or python:module:function (returns a Denoiser)",
        highlight=False,
        soft_wrap=True,
    )


def print_theory(config: TheoryConfig) -> None:
    """Print the geometry, the critical times and the Ginzburg-Landau parameters of a patch model.

    Raises:
        ValueError: If the config is unusable.
    """
    field = ReceptiveField.parse(config.receptive_field, config.dimensions)
    process = parse_process(config.schedule)
    dictionary = parse_dictionary(config.dictionary, config.seed, field)
    console = Console()
    console.print(_geometry_table(field, dictionary))
    times = critical_times(process, dictionary)
    console.print(_time_table(process, times))
    console.print(_landau_table(process, dictionary, times))


def critical_times(process: Process, dictionary: PatchDictionary) -> dict[str, float]:
    """Return every critical time of the symmetric point x = 0 by name; NaN where there is none."""
    field = dictionary.receptive_field
    omegas = {"|Omega|": float(field.size)}
    if abs(dictionary.omega_eff - field.size) > 1e-9:
        omegas["Omega_eff"] = dictionary.omega_eff
    times = {}
    for name, omega in omegas.items():
        times[f"score: r = 0, {name}"] = landau.critical_time(process, omega)
        for convention in ("sde", "ode"):
            time = landau.drift_critical_time(process, omega, convention)
            times[f"{convention} drift: lambda_0 = 0, {name}"] = time
    return times


def _geometry_table(field: ReceptiveField, dictionary: PatchDictionary) -> Table:
    table = Table(title="receptive field", title_justify="left", show_header=False)
    table.add_row("|Omega|", str(field.size))
    table.add_row("Omega_eff", f"{dictionary.omega_eff:.6g}")
    table.add_row("c_Omega", f"{field.c_omega:.6g}")
    table.add_row("c tensor", np.array2string(field.c_tensor().numpy(), separator=", ").replace("\n", ""))
    return table


def _time_table(process: Process, times: Mapping[str, float]) -> Table:
    table = Table(title="critical times at x = 0", title_justify="left")
    for column in ("condition", "t", "alpha", "sigma", "EDM sigma"):
        table.add_column(column, justify="left" if column == "condition" else "right")
    for name, t in times.items():
        if math.isnan(t):
            table.add_row(name, "none", "", "", "")
            continue
        values = (process.alpha(t), process.sigma(t), process.noise_level(t))
        table.add_row(name, f"{t:.6f}", *(f"{float(value):.6f}" for value in values))
    return table


def _landau_table(process: Process, dictionary: PatchDictionary, times: Mapping[str, float]) -> Table:
    """Tabulate the parameters at every critical time, and at half and twice them where the schedule reaches."""
    table = Table(title="Ginzburg-Landau parameters around x = 0, and the mean-field branch", title_justify="left")
    for column in ("t", "r", "kappa", "u", "sqrt(kappa/r)", "J_eff", "m"):
        table.add_column(column, justify="right", no_wrap=True)
    finite = [t for t in times.values() if math.isfinite(t)]
    rows = {*finite, *(0.5 * t for t in finite), *(2 * t for t in finite if 2 * t < process.t_end)}
    for t in sorted(rows, reverse=True):
        parameters = landau.ginzburg_landau(process, t, dictionary)
        mass, scale = float(parameters.r), 1 / float(process.sigma(t)) ** 2
        critical = abs(mass) < 1e-12 * scale
        length = (
            "diverges" if critical and float(parameters.kappa) > 0 else _number(landau.mean_field_length(parameters))
        )
        branch = (f(process, t, dictionary.omega_eff) for f in (landau.effective_coupling, landau.mean_field_branch))
        table.add_row(
            f"{t:.6f}", "0" if critical else _number(mass), _number(parameters.kappa), _number(parameters.u), length,
            *(_number(value) for value in branch),
        )  # fmt: skip
    return table


def _number(value: Tensor | float) -> str:
    return "undefined" if math.isnan(float(value)) else f"{float(value):.4g}"
