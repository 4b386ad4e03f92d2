"""The networks that come with softmode, as a table."""

from pathlib import Path

from softmode.networks.card import Card, read_card
from softmode.networks.shipped import find_weights, shipped_names
from softmode.runs.results import Table

MODEL = (
    "a MODEL is one of these names, a path made by softmode train, edm2:file, diffusers:path-or-hub-id, or "
    "python:module:function (returns a Denoiser or a Model)"
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
    """Return how good a network is on held-out images: a classifier's accuracy, a denoiser's loss."""
    name, key = ("accuracy", "accuracy") if card.architecture == "classifier" else ("loss", "mean")
    return f"{name}\n{card.held_out[key]:.4f}" if key in card.held_out else "unknown"
