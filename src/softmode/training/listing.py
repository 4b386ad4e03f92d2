"""The networks that come with softmode, as a table."""

from pathlib import Path

from softmode.estimate import Estimate
from softmode.networks.card import Card, read_card
from softmode.networks.shipped import find_weights, shipped_names
from softmode.runs.results import Table

MODEL = (
    "a MODEL is one of these names, a path made by softmode train, edm2:file, diffusers:path-or-hub-id, or "
    "python:module:function (returns a Denoiser or a Model); held out: of a network with classes the share of its "
    "samples that are recognised, and what it knows of its label"
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
        rows.append((name, f"{card.data},\n{card.values}", card.classes or None, card.epochs, _quality(card), size))
    columns = ("name", "data", "classes", "epochs", "held out", "MiB")
    return Table("Models", columns, tuple(rows), MODEL), files


def _quality(card: Card) -> str:
    """Return how good a network is on held-out images, in the numbers of `softmode quality` where they are on its card.

    A classifier's accuracy; of its samples the share that is recognised, and the information about its label.
    """
    found = {name: Estimate.from_plain(each) for name, each in card.held_out.get("quality", {}).items()}
    if "recognised" in found:
        return f"{found['recognised'].value:.0%},\n{found['label_information'].value:.2f} nats"
    if "frechet" in found:
        return f"Fréchet\n{found['frechet'].value:.2f}"
    name, key = ("accuracy", "accuracy") if card.architecture == "classifier" else ("loss", "mean")
    return f"{name}\n{card.held_out[key]:.4f}" if key in card.held_out else "unknown"
