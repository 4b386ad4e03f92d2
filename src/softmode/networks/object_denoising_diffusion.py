"""Diffusions of denoising-diffusion-pytorch: a network with what it predicts and its noise, discrete or continuous.

States are in [-1, 1] where the object normalises its images so, as all do unless told otherwise.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from softmode.denoiser import Denoiser
from softmode.message import quote, refusal
from softmode.networks.taken import Called, Given, OfLevels, Taken, kind_in, unknown, wide
from softmode.timesteps import Prediction, from_discrete

GUIDED = "classifier_free_guidance.GaussianDiffusion"
LEARNED = "learned_gaussian_diffusion.LearnedGaussianDiffusion"
LINE = "denoising_diffusion_pytorch_1d.GaussianDiffusion1D"
DISCRETE = (
    LEARNED,
    "denoising_diffusion_pytorch.GaussianDiffusion",
    "guided_diffusion.GaussianDiffusion",
    "repaint.GaussianDiffusion",
    LINE,
    GUIDED,
)
ELUCIDATED = "elucidated_diffusion.ElucidatedDiffusion"
SIMPLE = "simple_diffusion.GaussianDiffusion"
CONTINUOUS = (
    "continuous_time_gaussian_diffusion.ContinuousTimeGaussianDiffusion",
    "v_param_continuous_time_gaussian_diffusion.VParamContinuousTimeGaussianDiffusion",
    SIMPLE,
)
KINDS = (*DISCRETE, ELUCIDATED, *CONTINUOUS)
PREDICTIONS: dict[str, Prediction] = {"pred_noise": "epsilon", "pred_x0": "sample", "pred_v": "v_prediction"}
PACKAGE = "denoising_diffusion_pytorch"


def read(value: Any, schedule: Any) -> Taken:
    """Return what is read off a diffusion of denoising-diffusion-pytorch."""
    kind = kind_in(value, PACKAGE, KINDS)
    if not kind or type(value).__name__ == "WeightedObjectiveGaussianDiffusion":
        remedy = "a Trainer has it as .ema.ema_model, a network alone does not say what it predicts"
        raise unknown(value, "denoising-diffusion-pytorch", KINDS, remedy)
    if not isinstance(schedule, str):
        raise refusal("schedule: a diffusion has noise levels of its own; expected a process such as ve")
    if getattr(value, "self_condition", False):
        raise refusal(
            f"model: this {type(value).__name__} is conditioned on its own estimate of the step before: no function "
            "of state and noise level; without that, sm.from_discrete(lambda x, t: diffusion.model(x, t), "
            "diffusion.alphas_cumprod, ...) reads it"
        )
    if kind == ELUCIDATED:
        return _elucidated(value)
    return _continuous(value, kind) if kind in CONTINUOUS else _discrete(value, kind)


def _shape(value: Any, kind: str) -> tuple[int, ...]:
    if kind != LINE:
        size = value.image_size
        return (value.channels, *((size, size) if isinstance(size, int) else size))
    if not value.channel_first:
        raise refusal("model: this GaussianDiffusion1D has channel_first=False; expected channels before positions")
    return (value.channels, value.seq_length)


def _discrete(value: Any, kind: str) -> Taken:
    # one minus this is exact in float32 where alphas_cumprod is not, near 1; and the other way round near 0
    squares = -torch.expm1(value.log_one_minus_alphas_cumprod.double())
    # a network with a variance is trained to predict the noise whatever its objective is said to be
    prediction = "epsilon" if kind == LEARNED else PREDICTIONS[value.objective]
    known = from_discrete(value.model, squares, prediction)
    conditions, null = _classes(value.model) if kind == GUIDED else ((), None)
    offset = float(getattr(value, "offset_noise_strength", 0.0))
    coloured = (
        f"was trained with offset_noise_strength = {offset:g}: on noise that is not white, as that of every state here "
        "is; what it makes of the mean of a state may be off"
    )
    return Taken(
        bind=lambda given: from_discrete(Called(value.model, given), squares, prediction),
        shape=_shape(value, kind),
        levels=known.levels,
        conditions=conditions,
        null=null,
        remarks=(coloured,) if offset else (),
    )


def _classes(network: Any) -> tuple[tuple[Given, ...], Given | None]:
    """Return the arguments of each class and of none, as `forward_with_cond_scale` gives them."""
    if not hasattr(network, "classes_emb"):
        raise refusal(
            f"conditions: {quote(type(network).__name__)} does not say its classes; give sm.from_object(diffusion, "
            "conditions=[{'classes': ...}]), one for each class, tensors [1]"
        )
    each = [
        {"classes": torch.tensor([label]), "cond_drop_prob": 0.0} for label in range(network.classes_emb.num_embeddings)
    ]
    # never seen in a training that drops no label
    return tuple(each), each[0] | {"cond_drop_prob": 1.0} if network.cond_drop_prob > 0 else None


def _elucidated(value: Any) -> Taken:
    def bound(given: Given) -> Denoiser:
        called = Called(value.preconditioned_network_forward, given, value)
        return OfLevels(lambda x, level: called(x, level.to(x.dtype)))

    return Taken(bound, _shape(value, ELUCIDATED), (float(value.sigma_min), float(value.sigma_max)))


def _continuous(value: Any, kind: str) -> Taken:
    """Return what is read off a diffusion whose network is told the log of the signal-to-noise ratio."""
    noise = value.pred_objective == "eps" if kind == SIMPLE else kind == CONTINUOUS[0]
    log_snr: Callable[[Tensor], Tensor] = value.log_snr
    with torch.no_grad():
        low, high = (-0.5 * log_snr(torch.tensor([0.0, 1.0], device=value.device)).double()).exp().tolist()

    def bound(given: Given) -> Denoiser:
        called = Called(value.model, given)

        def ask(x: Tensor, level: Tensor) -> Tensor:
            sigma, alpha = wide(level, x), wide((1 + level.square()).rsqrt(), x)
            out = called(alpha * x, (-2 * level.log()).to(x.dtype))
            # the state's own alpha^2 x - sigma v, or x - (sigma / alpha) eps
            return x - sigma * out if noise else alpha.square() * x - alpha * sigma * out

        return OfLevels(ask)

    if not 0 < low < high < math.inf:
        raise refusal(f"model: its noise levels go from {low:g} to {high:g}; expected rising ones")
    return Taken(bound, _shape(value, kind), (low, high))
