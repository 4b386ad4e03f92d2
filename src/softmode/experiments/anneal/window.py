"""The window of an anneal run: given as two numbers, of a stored run, or of the documentation."""

from pathlib import Path

from softmode.experiments.pulse.critical import WINDOW, check_same_model
from softmode.levels import parse_range
from softmode.message import quote, refusal
from softmode.model import Model
from softmode.runs.run import Run
from softmode.runs.store import is_run

# docs/window.md: what softmode window finds in default settings
DOCUMENTED = {"fashion-mnist": (0.97, 16.6), "fashion-mnist-binary": (1.7, 11.9)}


def find_window(text: str, model: Model) -> tuple[float, float]:
    """Return the lowest and the highest noise level of a window.

    Args:
        text: LOW:HIGH, a directory of softmode window, or nothing.
        model: The model.

    Raises:
        ValueError: If there is no window, or it is of another model.
    """
    if not text:
        if model.name not in DOCUMENTED:
            raise refusal(
                f"window: got nothing, and none is documented for {quote(model.name)}; give LOW:HIGH, or the directory "
                "of a softmode window"
            )
        return DOCUMENTED[model.name]
    if is_run(Path(text)):
        run = Run(Path(text), WINDOW)
        check_same_model("window", run, model)
        if run.results.values["verdict"] == "none":
            raise refusal(f"window: {quote(text)} found none; give LOW:HIGH")
        low, high = (run.results[end].estimate.value for end in ("sigma_lo", "sigma_hi"))
        return low, high
    return parse_range("window", text, "0.5:5, or the directory of a softmode window")
