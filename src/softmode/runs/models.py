"""The models that softmode ships, as a table."""

from pathlib import Path

from softmode.networks.card import read_card
from softmode.networks.shipped import find_weights, shipped_names
from softmode.runs.results import Table

NOTE = (
    "A MODEL is one of these names, a path made by softmode train, edm2:file, diffusers:path-or-hub-id, or "
    "python:module:function (returns a Denoiser or a Model)."
)


def models_table() -> tuple[Table, list[Path]]:
    """Return the shipped models with their data, training, quality and size, and where their weights are."""
    paths = [find_weights(name) for name in shipped_names()]
    return Table(
        "Models", ("name", "data", "classes", "epochs", "held out", "size"), tuple(map(_row, paths)), NOTE
    ), paths


def _row(path: Path) -> tuple[str, str, int | None, float, str, str]:
    card = read_card(path)
    measured = card.held_out
    quality = f"accuracy {measured['accuracy']:.4f}" if "accuracy" in measured else f"loss {measured['mean']:.4f}"
    size = f"{path.stat().st_size / 2**20:.1f} MiB"
    return path.stem, f"{card.data},\n{card.values}", card.classes or None, card.epochs, quality, size
