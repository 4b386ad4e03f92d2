"""What a user of the anneal experiment chooses."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional

from softmode.bounds import Bounds
from softmode.settings import Compute, Count, Labels, Positive, Precision


@dataclass(frozen=True, kw_only=True)
class Config(Compute):
    """Sample with corrector steps inside or outside the critical window, at equal cost, and compare the samples.

    Example: softmode anneal fashion-mnist --correctors 0,1,4,16 --out runs/anneal

    An interrupted run is resumed by the same command, at the condition and block of samples where it was.
    """

    model: Positional[str]
    """A name of softmode models, a path made by softmode train, or python:module:function (returns a Model)."""
    correctors: tuple[Annotated[int, Bounds(0, 10**4)], ...] = (0, 1, 4, 16)
    """Corrector steps for each noise level of the sampler, on average; 0 is the sampler alone."""
    window: str = ""
    """The critical window, LOW:HIGH in noise levels, or the directory of a finished softmode window of the same model;
    when left out, the one that the documentation gives for a shipped model."""
    steps: Annotated[int, Bounds(3, 10**5)] = 11
    """Noise levels of the sampler, rho 7; an odd number, so that more of them can cost the same as correctors."""
    length: Positive = 0.2
    """Length of a corrector step, in units of sigma^2, the relaxation time of noise."""
    trajectories: Count = 40
    """Samples of each condition, dealt out to the classes in turn; all conditions start from the same noise."""
    labels: Labels = ()
    """Classes, for example 3,7; when left out, all of the model's, or all samples together where it has none."""
    classifier: str = "auto"
    """What recognises samples, and whose features the Fréchet distance takes: a name or a path of softmode models, or
    python:module:function (of images, returns logits); none is the model's own posterior, and its states for features;
    auto is that of the data which the model's card names."""
    data: str = ""
    """Real images for the Fréchet distance: a file.npz with images [image, channel, sides] in the model's units; the
    model's own held-out images when left out."""
    precision: Precision = "full"
    """Floating type inside the network while sampling; the classifier computes in float32."""
    block: Count = 20
    """Samples computed at once and stored together; an interrupted run resumes at its last finished block."""
