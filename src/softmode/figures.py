"""Figures."""

from pathlib import Path

from softmode.store import Run


def draw(run: Run) -> list[Path]:
    """Draw."""
    return []
