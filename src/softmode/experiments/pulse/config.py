"""What a user of the pulse experiment chooses, and what every experiment on guidance lets a user choose."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional

from softmode.bounds import Bounds
from softmode.settings import Asked, Compute, Count, Labels, Positive, Precision


@dataclass(frozen=True, kw_only=True)
class GuidedTrials(Asked, Compute):
    """What every experiment on guidance needs: a model, its guide, a classifier, and how to sample."""

    model: Positional[str]
    """A name of softmode models, a path made by softmode train, edm:file, edm2:file,
    diffusers:path-or-hub-id, or python:module:function (returns a Model); it must know classes."""
    guide: str = "dropped"
    """What guidance pushes away from: dropped (the model itself without its label, or with its negative prompt), or a
    MODEL: unconditional, or a weaker one of the same classes (autoguidance)."""
    classifier: str = "auto"
    """Tells how well a sample is aligned with its class: a name or a path of softmode models, dinov2 (dinov2:small,
    dinov2:PATH; pip install 'softmode[transformers]'), or python:module:function (of images, returns logits); none is
    the model's own posterior; auto is that of the data which the model's card names."""
    labels: Labels = ()
    """Classes, for example 207,388, or values of an attribute, mouth or mouth=0,mouth=1; when left out, all prompts, or
    as many as --classes says, evenly spaced."""
    classes: Count = 10
    """Number of classes (H.5)."""
    trials: Count = 40
    """Trials per class and condition (H.5); all conditions of a trial start from the same noise."""
    weight: float = 10.0
    """Weight w of the guidance, D + w (D - D_guide). The paper says strong, and no number."""
    data: str = ""
    """Real images for the Fréchet distance: a file.npz with images [image, channel, sides] in the model's units; the
    model's own held-out images when left out."""
    steps: Annotated[int, Bounds(2, 10**7)] = 32
    """Noise levels of EDM's sampler, rho 7 (H.1); 32 is EDM2's number."""
    precision: Precision = "full"
    """Floating type inside the networks while sampling; the classifier computes in float32."""
    block: Count = 20
    """Trials sampled at once and stored together; an interrupted run resumes at its last finished block of a class and
    condition."""


@dataclass(frozen=True, kw_only=True)
class GuidedSampling(GuidedTrials):
    """The same, where it matters at which noise level the model is critical."""

    sigma_c: Positive | None = None
    """Critical noise level sigma/alpha; that of --window when left out."""
    window: str = ""
    """Directory of a finished softmode window of the same model; when left out, one is made in OUT/window."""


@dataclass(frozen=True, kw_only=True)
class Config(GuidedSampling):
    """Guide in a short pulse at sigma_c, at random places and in other ways, and compare the samples (H.4 to H.7).

    Example: softmode pulse fashion-mnist --out runs/pulse

    Example: softmode pulse edm2:s.safetensors --guide edm2:xs.safetensors --classifier dinov2 --out runs/fig4

    An interrupted run is resumed by the same command, at the class, condition and block of trials where it was.
    """

    half_width: Positive | None = None
    """Half the pulse's width in sigma, Delta of H.4; half of sigma_c when left out, as the paper gives no number."""
    interval: tuple[float, float] = (0.19, 1.61)
    """A given interval of guidance, low and high; the default was published for EDM2-XXL on ImageNet-512
    (Kynkäänniemi et al. 2024)."""
