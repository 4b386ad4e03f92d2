"""What is known of the label along the noise levels, by a finished information run, to set beside a susceptibility."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from softmode.cumulative import shortest
from softmode.estimate import Array, Estimate, bootstrap
from softmode.experiments.information.analyse import labels_of
from softmode.experiments.pulse.critical import WINDOW, check_same_model
from softmode.experiments.window.decided import INFORMATION, KNOWN_IN, beside
from softmode.message import quote, refusal
from softmode.model import Model
from softmode.runs.experiment import Constants
from softmode.runs.layout import constant
from softmode.runs.run import Run
from softmode.runs.store import is_run


class LabelKnown(NamedTuple):
    """What paths tell of the label; of several labels, of all together.

    Attributes:
        levels: Falling noise levels.
        information: Known down to each level (nats), [image, level].
        truth: Class of each image, within which images are resampled; -1 where unknown.
    """

    levels: Float[Array, " level"]
    information: Float[Array, "image level"]
    truth: Int[Array, " image"]

    @property
    def constants(self) -> Constants:
        """The same as arrays of a run, which needs the information's own run no more."""
        image, level = "known_image", "known_level"
        return {
            level: constant(self.levels, (level,), "EDM noise level of the label's information"),
            "known": constant(self.information, (image, level), "information about the label down to a level (nats)"),
            "known_truth": constant(self.truth, (image,), "class of the image, -1 where unknown"),
        }

    @property
    def identity(self) -> dict[str, Any]:
        """Numbers that other information would not give."""
        return {"information": {"images": len(self.truth), "known": f"{self.information.mean():.6g}"}}

    @classmethod
    def stored(cls, run: Run) -> "LabelKnown | None":
        """Return what a run keeps; None where it keeps none."""
        data = run.dataset
        if "known" not in data:
            return None
        return cls(*(data[name].to_numpy() for name in ("known_level", "known", "known_truth")))

    @property
    def half(self) -> Estimate:
        """The level by which half of all is known, from the highest down."""

        def found(curve: Array) -> Array:
            return np.array([shortest(curve, self.levels, 0.5).half])

        return bootstrap(self.information, found, centre=lambda rows: rows.mean(0), groups=self.truth.tolist())[0]


def label_known(information: str, window: str, model: Model) -> LabelKnown | None:
    """Return what an information run found of a model's labels; None where none is named or lies in the window's run.

    Args:
        information: Directory of the information run; empty where none is named.
        window: Directory of a window's run, which mostly has one in it; empty where none is named.
        model: The model.

    Raises:
        ValueError: If the named run is none of information, is not finished, is of another model or of no label.
    """
    run: Run | None
    if information:
        run = Run(Path(information), INFORMATION)
        what = f"information: {quote(information)}"
        if not is_run(run.directory) or run.identity["experiment"] != INFORMATION.name:
            raise refusal(f"{what} holds no information run; make one with softmode information")
    else:
        run, what = beside(Run(Path(window), WINDOW), KNOWN_IN, INFORMATION) if window else None, ""
    if run is None:
        return None
    _ = run.results
    check_same_model("information" if information else "window", run, model)
    labels = labels_of(run)
    if not labels:
        if information:
            raise refusal(f"{what} is of no label; make one with --labels, or leave it out")
        return None
    truth = labels[0].truth if len(labels) == 1 else np.full(len(labels[0].truth), -1)
    return LabelKnown(run.dataset["level"].to_numpy(), np.sum([each.information for each in labels], axis=0), truth)
