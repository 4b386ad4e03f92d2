"""Steps of a training against plain loops, and the randomness of each. Networks and images are tiny."""

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_training import (
    BINARY,
    CLASSIFIER,
    LABELLED,
    data,
    draws,
    images,
    make,
    plain_loss,
    record_draws,
    relative,
)
from torch import nn

from softmode.data import Images
from softmode.networks.card import load_weights
from softmode.training import state
from softmode.training.config import TrainConfig
from softmode.training.directory import WEIGHTS
from softmode.training.train import run


@pytest.mark.parametrize("config", [BINARY, LABELLED, CLASSIFIER], ids=lambda config: config.network)
def test_the_gradient_is_that_of_a_plain_loss(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """To 1e-5 in every tensor, though the batch goes through the network in two unequal parts."""
    monkeypatch.setattr(state, "CPU_IMAGES_AT_ONCE", 5)
    drawn = record_draws(monkeypatch)
    made = make(replace(config, clip=1e9))
    network = copy.deepcopy(made.network)
    value = made.train_step()
    loss = plain_loss(network, drawn[0][1], made.kind.classes)
    loss.backward()
    assert value == pytest.approx(loss.item(), rel=1e-5)
    largest = max(float(parameter.grad.norm()) for parameter in network.parameters())
    for (name, found), expected in zip(made.network.named_parameters(), network.parameters(), strict=True):
        assert float((found.grad - expected.grad).norm()) < 1e-5 * max(float(expected.grad.norm()), 1e-3 * largest), (
            name
        )


@pytest.mark.parametrize("config", [BINARY, LABELLED, CLASSIFIER], ids=lambda config: config.network)
def test_three_steps_are_those_of_a_plain_loop(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """AdamW on the clipped gradient, and the average w' = d w' + (1 - d) w, d = min(ema, (1 + n) / (10 + n))."""
    drawn = record_draws(monkeypatch)
    ema, clip = 0.15, 0.1
    made = make(replace(config, ema=ema, clip=clip))
    network = copy.deepcopy(made.network)
    average = {name: value.double() for name, value in network.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate)
    norms = []
    for step in range(3):
        made.losses.append(made.train_step())
        made.step += 1
        optimizer.zero_grad()
        plain_loss(network, drawn[step][1], made.kind.classes).backward()
        gradients = [parameter.grad for parameter in network.parameters()]
        norms.append(math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients)))
        for gradient in gradients:
            gradient.mul_(min(1.0, clip / norms[-1]))
        optimizer.step()
        decay = min(ema, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            average[name] = decay * average[name] + (1 - decay) * value.double()
    assert min(norms) > clip
    state = network.state_dict()
    for name, value in made.network.state_dict().items():
        if not value.is_floating_point():
            assert int(value) == int(made.average[name]) == 3
            continue
        assert relative(value, state[name]) < 2e-5, name
        assert relative(made.average[name].double(), average[name]) < 2e-5, name
        assert relative(made.average[name], value) > 1e-6, name


def test_a_small_gradient_is_not_clipped_and_a_large_one_keeps_its_direction() -> None:
    """The norm of what the optimiser sees is the smaller of the gradient's and the limit."""
    seen = {}
    for clip in (1e9, 0.01):
        made = make(replace(BINARY, clip=clip))
        made.train_step()
        seen[clip] = torch.cat([parameter.grad.flatten() for parameter in made.network.parameters()])
    whole, clipped = seen[1e9], seen[0.01]
    assert float(whole.norm()) > 0.05
    assert float(clipped.norm()) == pytest.approx(0.01, rel=1e-3)
    assert float(nn.functional.cosine_similarity(whole, clipped, dim=0)) == pytest.approx(1, abs=1e-5)


def test_times_are_log_uniform() -> None:
    """log t is uniform between its ends: mean and ten bins within four standard errors, over 20000 times."""
    config = replace(BINARY, t_min=1e-2, t_max=20.0)
    t = torch.cat([terms[1] for terms in draws(config, 10)])
    assert t.dtype == torch.float64
    place = torch.log(t / 1e-2) / math.log(20.0 / 1e-2)
    assert 0 <= float(place.min()) < 1e-3
    assert 1 - 1e-3 < float(place.max()) <= 1
    assert abs(float(place.mean()) - 0.5) < 4 * math.sqrt(1 / 12 / len(t))
    bins = torch.histc(place, 10, 0.0, 1.0) / len(t)
    assert float((bins - 0.1).abs().max()) < 4 * math.sqrt(0.1 * 0.9 / len(t))


def test_noise_is_standard_normal_and_new_at_every_step_and_site() -> None:
    """Mean, variance and fourth moment, the correlation of sites, of images and of steps, within four errors."""
    first, second = (terms[2].flatten(1).double() for terms in draws(BINARY, 2))
    count = first.numel()
    assert abs(float(first.mean())) < 4 / math.sqrt(count)
    assert abs(float(first.square().mean()) - 1) < 4 * math.sqrt(2 / count)
    assert abs(float(first.pow(4).mean()) - 3) < 4 * math.sqrt(96 / count)
    for other in (first.roll(1, 0), first.roll(1, 1), second):
        assert abs(float((first * other).mean())) < 4 / math.sqrt(count)


def test_every_step_of_every_epoch_and_seed_has_its_own_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs of two steps with two seeds: eight noises and eight lists of times, no two alike."""
    drawn = record_draws(monkeypatch)
    for seed in (0, 1):
        made = make(replace(BINARY, seed=seed), count=16)
        for _ in range(4):
            made.train_step()
            made.step += 1
    for term in (1, 2):
        assert len({tuple(terms[term].flatten().tolist()) for _, terms in drawn}) == 8


def test_labels_are_dropped_by_their_share_at_any_time() -> None:
    """The label `classes` in 10% of images, of any log t and class, within four standard errors; others keep theirs."""
    own = torch.arange(2000) % 10
    places, classes = [], []
    for x, t, _, labels in draws(LABELLED, 5):
        dropped = labels == 10
        assert torch.equal(labels[~dropped], own[~dropped])
        assert torch.equal(x, images(2000, LABELLED.network).tensor())
        places.append(torch.log(t[dropped] / 1e-3) / math.log(50.0 / 1e-3))
        classes.append(own[dropped].double())
    place, dropped_class = torch.cat(places), torch.cat(classes)
    assert abs(len(place) / 10000 - 0.1) < 4 * math.sqrt(0.09 / 10000)
    assert abs(float(place.mean()) - 0.5) < 4 * math.sqrt(1 / 12 / len(place))
    assert abs(float(dropped_class.mean()) - 4.5) < 4 * math.sqrt(8.25 / len(place))
    kept = draws(replace(LABELLED, label_dropout=0.0), 1)[0][3]
    assert torch.equal(kept, own)


def test_the_classifier_sees_half_of_the_images_mirrored() -> None:
    """Left and right exchanged, never top and bottom; labels stay."""
    made = make(CLASSIFIER, count=2000)
    ramp = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).expand(2000, 1, 8, 8)
    made.images = Images(ramp.contiguous(), made.images.labels, "grey")
    x, labels = made.draw(torch.arange(2000), torch.Generator().manual_seed(0))
    mirrored = x[:, 0, 0, 0] > x[:, 0, 0, -1]
    upright = made.images.tensor()
    assert torch.equal(x[~mirrored], upright[~mirrored])
    assert torch.equal(x[mirrored], upright[mirrored].flip(3))
    assert abs(float(mirrored.double().mean()) - 0.5) < 4 * math.sqrt(0.25 / 2000)
    assert torch.equal(labels, made.images.labels)


def test_a_training_starts_from_other_weights(denoiser: Path, tmp_path: Path) -> None:
    """From a directory or a file; network and average are the stored halves."""
    stored, _, _ = load_weights(denoiser / WEIGHTS)
    for start in (denoiser, denoiser / WEIGHTS):
        made = make(replace(BINARY, start=str(start)), rough=False)
        for name, value in stored.state_dict().items():
            assert torch.equal(made.network.state_dict()[name], value)
            assert torch.equal(made.average[name], value)


def test_a_network_with_classes_starts_from_one_without(denoiser: Path) -> None:
    """The labels change nothing at first, and learn."""
    made = make(replace(LABELLED, start=str(denoiser)), rough=False)
    stored, _, _ = load_weights(denoiser / WEIGHTS)
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([0.1, 1.0])
    assert torch.equal(made.network(x, t, torch.tensor([3, 10])), stored(x, t))
    made.train_step()
    assert float(made.network.label.weight.detach().abs().sum()) > 0


def test_a_classifier_starts_from_a_classifier(tmp_path: Path) -> None:
    """With the running averages of its batch norms and their integer counts."""
    path = run(CLASSIFIER, tmp_path / "out", data(CLASSIFIER))
    made = make(replace(CLASSIFIER, start=str(path)), rough=False)
    stored, _, _ = load_weights(path)
    for name, value in stored.state_dict().items():
        assert torch.equal(made.network.state_dict()[name], value)


def test_bfloat16_is_an_approximation_and_weights_stay_in_single_precision() -> None:
    """Convolutions compute in bfloat16, the first loss differs from float32 by a little, in either direction."""
    exact, rounded = (make(replace(BINARY, precision=precision)) for precision in ("float32", "bfloat16"))
    dtypes: list[torch.dtype] = []
    for made in (exact, rounded):
        made.network.middle1.conv1.register_forward_hook(lambda *seen: dtypes.append(seen[2].dtype))
    losses = exact.train_step(), rounded.train_step()
    assert dtypes == [torch.float32, torch.bfloat16]
    assert 1e-6 < abs(losses[1] / losses[0] - 1) < 0.01
    assert {value.dtype for value in rounded.network.state_dict().values()} == {torch.float32}
    assert {value.dtype for value in rounded.average.values()} == {torch.float32}
