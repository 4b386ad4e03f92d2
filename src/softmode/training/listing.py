"""The networks that come with softmode, as a table."""

from math import fsum
from pathlib import Path
from statistics import fmean

from softmode.estimate import Estimate
from softmode.networks.card import Card, read_card
from softmode.networks.shipped import find_weights, shipped_names
from softmode.runs.results import Table

MODEL = (
    "a MODEL is one of these names, a path made by softmode train, edm:file, edm2:file, score_sde:file, "
    "diffusers:path-or-hub-id, or "
    "python:module:function (returns a Denoiser or a Model); held out: of a network with labels the share of its "
    "samples that are recognised, and what it knows of its labels"
)


def models_table() -> tuple[Table, list[tuple[str, Path]]]:
    """Return the shipped networks, with what their cards say of them, and where the weights are.

    Raises:
        ValueError: If a weights file is damaged.
    """
    files = [(name, find_weights(name)) for name in shipped_names()]
    rows = []  # in lines short enough for a terminal of 80 columns
    for name, path in files:
        card = read_card(path)
        size = round(path.stat().st_size / 2**20, 1)
        values = "colour" if card.channels == 3 else card.values
        rows.append((name, f"{card.data},\n{values}", _labels(card), card.epochs, _quality(card), size))
    columns = ("name", "data", "labels", "epochs", "held out", "MiB")
    return Table("Models", columns, tuple(rows), MODEL), files


def _labels(card: Card) -> str | None:
    """Return the classes or attributes of a network in a few letters."""
    if card.classes:
        return f"{card.classes}\nclasses"
    first, *more = card.attributes or [None]
    return f"{first},\n{len(more)} more" if more else first


def _quality(card: Card) -> str:
    """Return how good a network is on held-out images, in the numbers of `softmode quality` where they are on its card.

    A classifier's accuracy; of its samples the share that is recognised, and the information about its labels: of
    several the mean share, and the sum.
    """
    found = {name: Estimate.from_plain(each) for name, each in card.held_out.get("quality", {}).items()}
    shares, nats = (
        [each.value for name, each in found.items() if name.startswith(kind)]
        for kind in ("recognised", "label_information")
    )
    if shares:
        return f"{fmean(shares):.0%},\n{fsum(nats):.2f} nats"
    if "frechet" in found:
        return f"Fréchet\n{found['frechet'].value:.2f}"
    name, key = ("accuracy", "accuracy") if card.architecture == "classifier" else ("loss", "mean")
    return f"{name}\n{card.held_out[key]:.4f}" if key in card.held_out else "unknown"
