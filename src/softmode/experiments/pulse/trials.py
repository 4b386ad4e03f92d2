"""What an experiment on guidance needs, from its config: denoisers, guides, a classifier, levels, real data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from softmode.adapted import adapted
from softmode.bounds import check
from softmode.contract import check_batched, check_denoiser
from softmode.data import read_images
from softmode.denoiser import Autocast, Denoiser
from softmode.device import parse_device
from softmode.estimate import Array
from softmode.experiments.pulse.config import GuidedTrials
from softmode.files import sha256
from softmode.guidance.steps import EDM, FlowSteps, Steps
from softmode.labels import Label
from softmode.levels import flow_levels
from softmode.message import quote, refusal
from softmode.model import Model
from softmode.networks.classifier import ImageClassifier
from softmode.networks.diffusers_steps import scheduler_steps
from softmode.networks.load import load_model, takes_text
from softmode.of_attributes import Values, values_of
from softmode.runs.classes import dealt_labels
from softmode.runs.classifier import judge
from softmode.runs.identity import check_state_fits, fingerprint, fingerprints, inputs_of
from softmode.runs.opening import prompts_of
from softmode.samplers import Euler, Heun
from softmode.soundness import warn_if_unsound

# the sampler of the paper's guidance experiments (H.1)
SAMPLER = Heun()
# a pipeline's own scheduler, in place of a sampler of ours
SCHEDULER = "scheduler"
DROPPED = "dropped"
# images of which a classifier takes the features at once
AT_ONCE = 50

# a denoiser, and what guidance pushes it away from
Pair = tuple[Denoiser, Denoiser]
# maps noise levels to weights, scalar or one per trial
Weight = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Condition:
    """One way to guide the trials of an experiment.

    Args:
        name: Stable identifier.
        definition: What it is, in one line.
        source: Section of the paper or key of a publication.
        weight: Maps a class and its trials to w(sigma) for that batch; None for no guidance.
    """

    name: str
    definition: str
    source: str
    weight: Callable[[int, Sequence[int]], Weight] | None


def fixed(weight: Weight) -> Callable[[int, Sequence[int]], Weight]:
    """Return the weight of a condition that is the same for every class and trial."""
    return lambda _label, _trials: weight


@dataclass(frozen=True, eq=False)
class Guidance:
    """Everything that a checked config determines, but for the conditions.

    Args:
        config: The config.
        model: The model.
        denoisers: (denoiser, guide) by class, in the precision asked for.
        together: Maps the class of each of several states to their (denoiser, guide) in one call; None where the
            networks take one class at a time.
        classifier: Tells the classes of samples.
        sampler: The sampler.
        real: Features of real images [image, feature], and their classes [image], -1 where unknown; empty without any.
        inputs: SHA-256 digest of each file that all of this was made of, by what the file is.
        dtype: Floating type of the states.
        device: Device of the states.
        call_seconds: Time of one network evaluation of one state (s).
        names: Which values of attributes the classes are; empty for a model of classes.
    """

    config: GuidedTrials
    model: Model
    denoisers: Mapping[int, Pair]
    classifier: ImageClassifier
    sampler: Steps
    real: tuple[Float[Array, "image feature"], Int[Array, " image"]]
    inputs: Mapping[str, str]
    dtype: torch.dtype
    device: torch.device
    call_seconds: float = 0.0
    together: Callable[[Sequence[int]], Pair] | None = None
    names: tuple[str, ...] = ()

    @property
    def labels(self) -> list[int]:
        """The classes."""
        return list(self.denoisers)

    @property
    def levels(self) -> Float[Tensor, " level"]:
        """Falling noise levels of the sampler, float64 [level]."""
        return self.sampler.levels

    @property
    def times(self) -> Float[Tensor, " time"]:
        """The sampler's grid: its levels, and no noise at the end."""
        return torch.cat([self.levels, self.levels.new_zeros(1)])

    def pair(self, labels: Sequence[int]) -> Pair:
        """Return the denoiser and the guide of a batch of states with a class each."""
        if len(set(labels)) == 1:
            return self.denoisers[labels[0]]
        assert self.together is not None
        return self.together(labels)

    def fingerprint(self) -> dict[str, Any]:
        """Return the name and shape of the model, its classes, and numbers that other networks would not give."""
        made = self.device, self.dtype
        own: dict[Label, Denoiser] = {label: denoiser for label, (denoiser, _) in self.denoisers.items()}
        guides: dict[Label, Denoiser] = {label: guide for label, (_, guide) in self.denoisers.items()}
        one, *more = _distinct(guides)
        return {
            "name": self.model.name, "shape": list(self.model.shape), "labels": self.labels,
            **({"names": list(self.names)} if self.names else {}),
            "fingerprints": fingerprints(own, self.model, *made),
            "guide": fingerprints(guides if more else dict[Label, Denoiser]({None: one}), self.model, *made),
            "classifier": fingerprint(lambda x: self.classifier(x.float()), self.model.shape, *made),
        }  # fmt: skip


def find_guidance(config: GuidedTrials, given: Mapping[str, Any], sampler: str = SAMPLER.name) -> Guidance:
    """Check a config and build what it describes; nothing is written.

    Args:
        config: What to guide and how.
        given: The `model`, the `guide` (a Model) and the `classifier` (an ImageClassifier) that are at hand; others are
            loaded by their names in the config.
        sampler: heun, euler, or scheduler, that of a pipeline of diffusers.

    Raises:
        ValueError: If any field is out of range or a model cannot be used, naming the remedy.
    """
    check(config)
    if not config.weight:
        raise ValueError("weight: got 0; expected another number: a weight of 0 is no guidance")
    device, dtype = parse_device(config.device), getattr(torch, config.dtype)
    model: Model = given.get("model") or load_model(
        config.model,
        device=device,
        dtype=dtype,
        prompt=prompts_of(config.prompt, config.prompts),
        negative=config.negative,
    )
    check_state_fits(model, dtype)
    model = model.with_null(config.null_label)
    guide: Model = given.get("guide") or _guide_model(config, model, device, dtype)
    values = values_of(model, config.labels) if model.attributes else None
    if values is not None:
        model, guide = _as_classes(values, guide)
    if not model.classes:
        raise refusal(f"model: {quote(model.name)} has no classes, with which guidance is to align its samples")
    labels = list(range(model.classes)) if values is not None else _labels(config, model)
    steps = _sampler(sampler, config, model, guide, labels)
    classifier, classifier_files = judge(config.classifier, given.get("classifier"), model, labels, device, values)
    denoisers, guides = {label: model.denoiser(label) for label in labels}, _guides(guide, model, labels)
    middle = float(steps.levels[len(steps.levels) // 2])
    seconds = [check_denoiser(each, model, dtype, device, middle, True) for each in denoisers.values()]
    seconds += [check_denoiser(each, guide, dtype, device, middle, True) for each in _distinct(guides)]
    together = _together(model, guide, _distinct(guides), config.precision)
    if together is not None:
        check_batched(model, labels, dtype, device, middle)
        check_batched(guide, labels if guide.classes else (), dtype, device, middle)
    warn_if_unsound(denoisers[labels[0]], model, dtype, device)
    if config.precision != "full":
        precision = getattr(torch, config.precision)
        denoisers = {label: Autocast(each, precision) for label, each in denoisers.items()}
        wrapped = {id(each): Autocast(each, precision) for each in _distinct(guides)}
        guides = {label: wrapped[id(each)] for label, each in guides.items()}
    guides_files = {} if guide is model else guide.inputs
    inputs = inputs_of(model=model.inputs, guide=guides_files, classifier=classifier_files)
    return Guidance(
        config=config,
        model=model,
        denoisers={label: (denoisers[label], guides[label]) for label in labels},
        classifier=classifier,
        sampler=steps,
        real=_real(config, model, classifier, device),
        inputs=inputs | ({"data": sha256(config.data)} if config.data else {}),
        dtype=dtype,
        device=device,
        call_seconds=max(seconds),
        together=together,
        names=() if values is None else values.labels,
    )


def _labels(config: GuidedTrials, model: Model) -> list[int]:
    if config.labels:
        return [label for label in dealt_labels(config.labels, model, model.classes) if isinstance(label, int)]
    if model.dropped is not None:
        return list(range(model.classes))
    own = model.labels
    if config.classes > len(own):
        raise refusal(f"classes: got {config.classes}; expected at most {len(own)}, those of the model")
    return [own[i * len(own) // config.classes] for i in range(config.classes)]


def _sampler(name: str, config: GuidedTrials, model: Model, guide: Model, labels: Sequence[int]) -> Steps:
    """Return the sampler of a name, from the highest to the lowest level that the model and its guide both know."""
    if name == SCHEDULER:
        return scheduler_steps(model, guide, labels, config.steps)
    ends = [flow_levels(each) for each in (model, guide)]
    # what both know (H.1)
    first, last = min(first for first, _ in ends), max(last for _, last in ends)
    chosen = Euler() if name == Euler.name else SAMPLER
    return FlowSteps(chosen, chosen.grid(EDM, first, last, config.steps - 1))


def _guide_model(config: GuidedTrials, model: Model, device: torch.device, dtype: torch.dtype) -> Model:
    if config.guide == DROPPED:
        return model
    try:
        # one of text is asked for the same prompts
        prompts = prompts_of(config.prompt, config.prompts) if takes_text(config.guide) else ()
        guide = load_model(config.guide, device=device, dtype=dtype, prompt=prompts)
    except ValueError as error:
        raise refusal(f"guide: cannot use {quote(config.guide)} ({error})") from None
    return guide


def _as_classes(values: Values, guide: Model) -> tuple[Model, Model]:
    """Return a model of attributes and its guide as models of classes; a guide without them stays as it is."""
    classes = values.as_classes()
    if guide is values.model:
        return classes, classes
    same = dict(guide.attributes) == dict(values.model.attributes)
    return classes, replace(values, model=guide).as_classes() if same else guide


def _guides(guide: Model, model: Model, labels: Sequence[int]) -> dict[int, Denoiser]:
    """Return the guide of each class: without its label, or another network, of the class if it knows classes."""
    if guide is model:
        try:
            if guide.dropped is not None:
                return {label: adapted(guide.dropped(label)) for label in labels}
            return dict.fromkeys(labels, guide.denoiser(None))
        except ValueError as error:
            raise refusal(f"guide: {quote(model.name)} cannot drop its label ({error}); name another model") from None
    if guide.shape != model.shape:
        raise refusal(f"guide: {quote(guide.name)} has states {guide.shape}; expected {model.shape}, the model's")
    if guide.classes not in (0, model.classes):
        raise refusal(
            f"guide: {quote(guide.name)} knows {guide.classes} classes; expected none or the model's {model.classes}"
        )
    if not guide.classes:
        return dict.fromkeys(labels, guide.denoiser(None))
    return {label: guide.denoiser(label) for label in labels}


def _together(
    model: Model, guide: Model, guides: Sequence[Denoiser], precision: str
) -> Callable[[Sequence[int]], Pair] | None:
    """Return what gives the denoiser and the guide of a batch of several classes; None where either takes one alone."""
    several, others = model.computing_in(precision), guide.computing_in(precision)
    if model.batched is None or (len(guides) > 1 and (guide is model or guide.batched is None)):
        return None
    one = guides[0] if precision == "full" else Autocast(guides[0], getattr(torch, precision))
    return lambda labels: (several.of_states(labels), one if len(guides) == 1 else others.of_states(labels))


def _distinct(guides: Mapping[Any, Denoiser]) -> list[Denoiser]:
    """Return each guide once: without a class it is one for all of them."""
    return list({id(guide): guide for guide in guides.values()}.values())


def _real(config: GuidedTrials, model: Model, classifier: ImageClassifier, device: torch.device) -> tuple[Array, Array]:
    """Return features and classes of the real images that came with the model, or of --data."""
    if config.data:
        images = read_images(config.data, model.shape)
        known = np.full(len(images), -1)
    elif model.images is not None and model.images.shape == model.shape:
        images, known = model.images.tensor(), model.images.labels.numpy()
    else:
        return np.empty((0, 0), np.float32), np.empty(0, int)
    return features_of(images, classifier, device), known


@torch.no_grad()
def features_of(
    images: Float[Tensor, "image channel *space"], classifier: ImageClassifier, device: torch.device
) -> Float[Array, "image feature"]:
    """Return what a classifier's last layer sees of images, float32."""
    parts = [classifier.features(part.to(device, torch.float32)).float().cpu() for part in images.split(AT_ONCE)]
    return torch.cat(parts).numpy()
