"""States of different labels in one call of the network: every experiment gives what it gives label by label."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.errors import refused
from helpers.guidance import nearest
from helpers.models import by_sign
from helpers.random import normal, pixels
from softmode.data import Images
from softmode.denoiser import Denoiser, Guided, from_flow, per_sample
from softmode.experiments.call import experiment, plan
from softmode.experiments.instability.growth import growth
from softmode.model import Model
from softmode.per_state import PerState, of_rows
from softmode.process import VE
from softmode.runs.classes import own_images

LABELS = (0, 1, 2)
BASES = [torch.linalg.qr(normal(64, 64, seed=seed)).Q for seed in range(4)]
CENTRES = 0.7 * normal(4, 1, 8, 8)
SHARED: dict[str, Any] = {"model": "three", "labels": LABELS, "block": 4, "trajectories": 7, "dtype": "float64"}
PROBE = SHARED | {"steps": 4, "shells": 3, "measure_every": 2, "snapshots": (5.0, 1.0), "sampler": "heun"}
# a block of five trials is of three classes
GUIDED: dict[str, Any] = {
    "model": "three", "labels": LABELS, "trials": 2, "block": 5, "steps": 8, "sigma_c": 3.0, "dtype": "float64",
    "classifier": nearest(),
}  # fmt: skip
# what is left of a difference of nearly equal numbers
ROUNDING = {"quartic_error", "stiffness_error", "uneven"}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("probe", PROBE | {"method": "multiplexed", "classifier": by_sign}),
    ("probe", PROBE | {"method": "difference"}),
    ("probe", PROBE | {"method": "jvp", "states": "forward", "snapshots": (1.0,)}),
    ("probe", PROBE | {"sampler": "euler-maruyama", "t_max": 4.0, "t_min": 0.5, "steps": 30, "snapshots": (1.0,),
              "precision": "bfloat16"}),
    ("clones", SHARED | {"steps": 60, "t_max": 8.0, "t_min": 0.05, "times": (5.0,), "copies": 2,
                         "classifier": by_sign}),
    ("instability", SHARED | {"levels": 3, "states": "forward"}),
    ("instability", SHARED | {"levels": 3, "states": "reverse", "growth": False}),
    ("sector", SHARED | {"sigma": 1.0, "modes": 2}),
    ("anneal", SHARED | {"classifier": nearest(), "window": "0.5:5", "steps": 7, "correctors": (0, 2)}),
    ("anneal", SHARED | {"classifier": nearest(), "window": "0.5:5", "steps": 7, "correctors": (1,),
                         "precision": "bfloat16"}),
    ("pulse", GUIDED | {"half_width": 2.0}),
    ("pulse", GUIDED | {"half_width": 2.0, "guide": "weaker", "precision": "bfloat16"}),
    ("susceptibility", GUIDED | {"method": "pulses", "centres": 3, "highest": 20.0, "lowest": 0.5, "width": 3.0}),
    ("information", SHARED | {"levels": 8, "states": "samples"}),
]  # fmt: skip


def of_label(label: int | None) -> Denoiser:
    """Return a denoiser with modes, widths and a centre of its own: no two of its modes are equally soft."""
    place = 3 if label is None else label
    modes, centre = BASES[place], CENTRES[place]
    variance = (1 + place) * torch.linspace(0.1, 1.0, 64, dtype=torch.float64)

    def denoise(x: Tensor, sigma: Tensor | float) -> Tensor:
        gain = variance / (variance + per_sample(sigma, x.flatten(1)).square())
        amplitudes = (x.double() - centre).flatten(1) @ modes
        moved = gain * (amplitudes + 0.2 * amplitudes.sin())
        return (centre + (moved @ modes.T).reshape(x.shape)).to(x.dtype)

    return denoise


def of_each(labels: Sequence[int | None]) -> Denoiser:
    """Return the same for a label of each state, of all states at once."""
    places = [3 if label is None else label for label in labels]
    modes, centre = torch.stack([BASES[place] for place in places]), CENTRES[places]
    variance = (1 + torch.tensor(places)[:, None]) * torch.linspace(0.1, 1.0, 64, dtype=torch.float64)

    def denoise(x: Tensor, sigma: Tensor | float) -> Tensor:
        gain = variance / (variance + per_sample(sigma, x.flatten(1)).square())
        amplitudes = torch.einsum("bs,bsm->bm", (x.double() - centre).flatten(1), modes)
        moved = torch.einsum("bm,bsm->bs", gain * (amplitudes + 0.2 * amplitudes.sin()), modes)
        return (centre + moved.reshape(x.shape)).to(x.dtype)

    return denoise


def three_labels() -> Model:
    """Return a model whose denoisers of three labels have little in common."""
    return Model(
        "three", VE(), (1, 8, 8), of_label, classes=3, batched=of_each,
        images=Images(pixels(12, 1, 8, 8), torch.arange(12) % 3, "grey"),
        spectrum=torch.stack([torch.full((8, 8), s) for s in (1.0, 2.0, 3.0, 2.0)]), mean=torch.zeros(4, 1, 8, 8),
    )  # fmt: skip


@pytest.mark.parametrize(("name", "settings"), CASES, ids=[name for name, _ in CASES])
def test_an_experiment_is_what_it_is_label_by_label(name: str, settings: dict[str, Any]) -> None:
    """Every array to 1e-6, from a block of several labels; it is one batch, and its work is counted as such."""
    together, apart = (
        plan(experiment(name), **settings | {each: replace(model) for each in ("model", "guide") if each in settings})
        for model in (three_labels(), replace(three_labels(), batched=None))
    )
    first, *rest = together.blocks()
    blocks = [first, *(block for block in rest if block.trajectories == first.trajectories)]
    advanced = list[int]()
    for block in blocks:
        found, expected = together.measure(block, lambda: advanced.append(1)), apart.measure(block)
        assert found.keys() == expected.keys()
        for array in expected.keys() - ROUNDING:
            values = expected[array]
            # what is 0 but for rounding has no digits
            scale = max(float(np.nanmax(np.abs(values), initial=0.0)), 1e-6)
            np.testing.assert_allclose(found[array], values, rtol=1e-6, atol=1e-6 * scale, err_msg=array)
    assert len(advanced) == together.steps(blocks)
    if name != "information":
        assert len(advanced) < apart.steps(blocks)


def test_a_batch_is_of_its_own_states_alone() -> None:
    """Some of its states, or more points than states, are refused unless it is said which is which."""
    x, labels = normal(3, 1, 8, 8), (2, 0, 1)
    denoiser = three_labels().of_states(labels)
    expected = torch.cat([of_label(label)(x[[i]], 0.7) for i, label in enumerate(labels)])
    torch.testing.assert_close(denoiser(x, 0.7), expected)
    for batch in (x[:2], x[:1], torch.cat([x, x])):
        with refused("expected|of 3"):
            denoiser(batch, 0.7)
    rows = torch.tensor([2, 2, 0, 1])
    torch.testing.assert_close(of_rows(denoiser, rows)(x[rows], 0.7), expected[rows])
    torch.testing.assert_close(of_rows(of_rows(denoiser, rows), torch.tensor([3]))(x[[1]], 0.7), expected[[1]])


def test_guidance_of_some_states_asks_the_guides_of_these() -> None:
    """A weight that is 0 for a state leaves its guide out, and those of the others where they are."""
    x, labels, weights = normal(3, 1, 8, 8), (2, 0, 1), torch.tensor([0.0, 1.0, 2.0])
    model = three_labels()
    guided = Guided(model.of_states(labels), model.of_states((0, 1, 2)), lambda _sigma: weights)(x, 0.7)
    for i, (label, guide) in enumerate(zip(labels, (0, 1, 2), strict=True)):
        own = Guided(of_label(label), of_label(guide), lambda _sigma, i=i: weights[i])(x[[i]], 0.7)
        torch.testing.assert_close(guided[[i]], own)


def test_pushes_to_either_side_keep_their_labels() -> None:
    """What comes twice in a batch has its labels twice."""
    x, modes, labels = normal(3, 1, 8, 8), normal(3, 1, 8, 8, seed=1) / 8, (2, 0, 1)
    found = growth(three_labels().of_states(labels), x, 2.0, modes)
    expected = [growth(of_label(label), x[[i]], 2.0, modes[[i]]) for i, label in enumerate(labels)]
    torch.testing.assert_close(found, torch.cat(expected))


@pytest.mark.parametrize(
    ("batched", "message"),
    [
        (lambda labels: of_each(sorted(labels)), "answers a state of label"),
        (lambda labels: of_label(labels[0]), "answers a state of label"),
        (lambda labels: lambda x, sigma: x[:, 0], "returned"),
        (lambda labels: None, "failed for several labels in one call"),
    ],
    ids=["sorted", "first", "shape", "nothing"],
)
def test_a_model_that_mixes_its_labels_is_refused(batched: Any, message: str) -> None:
    """Before anything is computed."""
    model = replace(three_labels(), batched=batched)
    with refused(f"model: 'three' {message}"):
        plan(experiment("probe"), **PROBE | {"model": model})


@pytest.mark.parametrize("classes", [2, 3])
def test_labels_that_hardly_differ_are_not_mistaken_for_one_another(classes: int) -> None:
    """The order of labels is checked by which label an answer is nearest to, however little they differ."""

    def near(label: int | None) -> Denoiser:
        return lambda x, sigma: x / 2 + 1e-4 * (label or 0)

    def backwards(labels: Sequence[int]) -> Denoiser:
        return lambda x, sigma: x / 2 + 1e-4 * torch.tensor(labels[::-1]).reshape(-1, 1, 1, 1)

    model = Model("near", VE(), (1, 8, 8), near, classes=classes, batched=backwards)
    with refused("answers a state of label"):
        plan(experiment("clones"), **SHARED | {"model": model, "labels": tuple(range(classes)), "classifier": "none"})


def test_one_label_needs_no_batch_of_several() -> None:
    """Nor does a model without `batched` take one."""
    model = replace(three_labels(), batched=lambda labels: pytest.fail("asked for several labels"))
    one = plan(experiment("probe"), **PROBE | {"model": model, "labels": (1,)})
    one.measure(one.blocks()[0])
    with refused("takes one label at a time"):
        replace(model, batched=None).of_states((0, 1))
    assert isinstance(three_labels().of_states((0, 1)), PerState)


def test_a_checked_denoiser_is_checked_once_for_each_label() -> None:
    """What a flow's velocity is read as is looked at for each label alone, not again for every batch."""
    sizes = list[int]()

    def network(labels: Sequence[int]) -> Any:
        def velocity(x: Tensor, t: Tensor) -> Tensor:
            sizes.append(len(x))
            s = t.reshape(-1, 1, 1, 1)
            mean = (x + torch.tensor(labels, dtype=x.dtype).reshape(-1, 1, 1, 1)) / 2
            return (x - mean) / s.clamp(min=0.01)

        return velocity

    model = Model(
        "flow", VE(), (1, 8, 8), lambda label: from_flow(network([label]), check=False), classes=3,
        batched=lambda labels: from_flow(network(labels)),
    )  # fmt: skip
    batch = model.of_states([0, 2, 1])
    for sigma in (70.0, 3.0):
        batch(normal(3, 1, 8, 8), sigma)
    assert sizes == [3, 3]


def test_each_trajectory_has_an_image_of_its_own_label() -> None:
    """Dealt out in turn: the first of label 5, the first of label 2, the second of label 5, ..."""
    images = {5: torch.arange(3.0).reshape(3, 1), 2: 10 + torch.arange(3.0).reshape(3, 1)}
    assert own_images(images, [0, 3, 4, 1]).flatten().tolist() == [0.0, 11.0, 2.0, 10.0]
