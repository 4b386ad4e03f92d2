"""The recipe that covers every noise level, against its definition, and what images and labels it shows."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from scipy import stats
from small_training import BINARY, CPU, LABELLED, data, draws, images, make, stop_after
from torch import Tensor, nn

from softmode.data import Images
from softmode.exact.gaussian import GaussianDenoiser, power_spectrum
from softmode.networks.card import load_weights
from softmode.networks.load import load_model
from softmode.networks.preconditioned import Preconditioned, scales, white
from softmode.training import state
from softmode.training.config import TrainConfig
from softmode.training.objectives import Classes, Edm
from softmode.training.recipes import NETWORKS, check
from softmode.training.state import Training
from softmode.training.train import run

EDM = replace(BINARY, recipe="edm")
EDM_LABELLED = replace(LABELLED, recipe="edm")


def test_preconditioning_keeps_inputs_and_targets_at_unit_variance() -> None:
    """Var(c_in x) = 1, and the mean over modes of the variance of (x_0 - D_G)/c_out is 1; for white data karras2022."""
    sigma, s = torch.tensor([0.002, 0.3, 1.0, 80.0], dtype=torch.float64), 0.7
    spectrum = s**2 * torch.tensor([[2.0, 0.5], [1.0, 0.5]], dtype=torch.float64)
    null = GaussianDenoiser(spectrum)
    out, into, embedded = scales(sigma, null, s)
    torch.testing.assert_close(into**2 * (s**2 + sigma**2), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(embedded, 4 * sigma.log())
    gain, each = null.gain(sigma), sigma[:, None, None]
    target = ((1 - gain) ** 2 * spectrum + gain**2 * each**2).mean((1, 2)) / out**2
    torch.testing.assert_close(target, torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(scales(sigma, white((2, 2), s), s)[0], sigma * s / (s**2 + sigma**2).sqrt())


def test_a_network_that_returns_nothing_is_the_gaussian_model() -> None:
    """D = c_skip x is the exact denoiser of white Gaussian data of the same deviation."""
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    denoiser = Preconditioned(lambda x, t: torch.zeros_like(x), white((4, 4), 0.7), 0.7)
    sigma = torch.tensor([0.1, 1.0, 30.0])
    expected = x * (0.49 / (0.49 + sigma.double() ** 2))[:, None, None, None]
    torch.testing.assert_close(denoiser(x, sigma), expected)
    torch.testing.assert_close(denoiser(x, 1.0), x * 0.49 / 1.49)


def test_binary_data_have_log_odds() -> None:
    """An untrained network is the Gaussian model under much noise, the sign under little, and exact for free sites."""
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).sign()
    denoiser = Preconditioned(lambda z, t: torch.zeros_like(z), white((4, 4), 1.0), 1.0, binary=True)
    noise = torch.randn(3, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    state = x + 80 * noise
    torch.testing.assert_close(denoiser(state, 80.0), state / (1 + 80**2), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(denoiser(x + 0.1 * noise, 0.1), x, rtol=0, atol=1e-12)

    def rest(z: Tensor, embedded: Tensor) -> Tensor:
        level = (embedded / 4).exp().reshape(-1, 1, 1, 1)
        own = z * (1 + level**2).sqrt()
        return own / level**2 - own / (level**2 * (1 + level**4)) - (own / (1 + level**2)).clamp(-0.98, 0.98).atanh()

    exact = Preconditioned(rest, white((4, 4), 1.0), 1.0, binary=True)
    for sigma in (0.5, 1.0, 3.0):
        state = x + sigma * noise
        torch.testing.assert_close(exact(state, sigma), torch.tanh(state / sigma**2))


@pytest.mark.parametrize("config", [EDM, EDM_LABELLED], ids=["binary", "labelled"])
def test_the_loss_is_the_weighted_square_error_of_the_denoiser(config: TrainConfig) -> None:
    """|D - x_0|^2 / c_out^2 averaged over sites, D that of the stored weights' denoiser, with the labels drawn."""
    made = make(config)
    x, sigma, noise, labels = made.draw(torch.arange(8), torch.Generator().manual_seed(0))
    made.network.requires_grad_(requires_grad=False)
    found = made.loss(made.network, x, sigma, noise, labels)
    s = made.card.sigma_data
    assert s == pytest.approx(float(made.images.tensor().std()))
    for i in range(8):
        own = labels[i : i + 1] if made.kind.classes else None
        binary = made.card.values == "binary"
        denoiser = Preconditioned(lambda z, t, own=own: made.network(z, t, own), null_of(made), s, binary)
        level = sigma[i : i + 1]
        denoised = denoiser(x[i : i + 1] + level.float() * noise[i : i + 1], level)
        out = float(scales(level, null_of(made), s)[0])
        assert float(found[i]) == pytest.approx(float((denoised - x[i]).square().mean()) / out**2, rel=1e-3)


def null_of(made: Training) -> GaussianDenoiser:
    x = made.images.tensor().double()
    return GaussianDenoiser(power_spectrum(x), x.mean(0))


def test_noise_levels_are_log_normal_between_their_ends() -> None:
    """A Kolmogorov-Smirnov test of 20000 levels against the cut normal law; both ends are reached."""
    sigma = torch.cat([terms[1] for terms in draws(EDM, 10)])
    ends = [(math.log(level) - 1.0) / 1.9 for level in (0.002, 80.0)]
    law = stats.truncnorm(*ends, loc=1.0, scale=1.9)
    assert stats.kstest(sigma.log().numpy(), law.cdf).pvalue > 1e-4
    assert 0.002 <= float(sigma.min()) < 0.01
    assert 60 < float(sigma.max()) <= 80


def test_one_label_is_dropped_by_its_share() -> None:
    """10 % of images, within four standard errors; others keep theirs."""
    own = torch.arange(2000) % 10
    labels = torch.stack([terms[3] for terms in draws(EDM_LABELLED, 5)])
    dropped = labels == 10
    assert bool((dropped | (labels == own)).all())
    assert abs(float(dropped.double().mean()) - 0.1) < 4 * math.sqrt(0.09 / 10000)


def test_any_subset_of_attributes_is_shown() -> None:
    """The number that is left out is uniform, and every attribute is left out equally often."""
    count, values = 20000, (2, 3, 5)
    own = torch.zeros(count, 3, dtype=torch.int64)
    objective = Edm(values, 0.1, 0.7, white((4, 4), 0.7))
    _, _, _, labels = objective.draw(torch.zeros(count, 1, 4, 4), own, torch.Generator().manual_seed(0))
    missing = labels == torch.tensor(values)
    assert bool((missing | (labels == own)).all())
    shares = torch.bincount(missing.sum(1), minlength=4) / count
    assert float((shares - 0.25).abs().max()) < 4 * math.sqrt(0.25 * 0.75 / count)
    assert float((missing.double().mean(0) - 0.5).abs().max()) < 4 * math.sqrt(0.25 / count)
    single = missing[missing.sum(1) == 2].double().mean(0)
    assert float((single - 2 / 3).abs().max()) < 4 * math.sqrt(2 / 9 / (count / 4))


def test_a_classifier_sees_images_shifted_by_two_sites() -> None:
    """Each of the 25 shifts equally often, what comes in is black; no shift in F.4's recipe."""
    x = torch.full((5000, 1, 8, 8), -1.0)
    x[:, 0, 4, 3] = 1.0
    shown, _ = Classes((10,), 2).draw(x, torch.zeros(5000), torch.Generator().manual_seed(0))
    place = shown.flatten(1).argmax(1)
    assert bool((shown.flatten(1).max(1).values == 1).all())
    assert float(shown.sum()) == float(x.sum())
    rows, columns = place // 8, torch.where(place % 8 > 3, 7 - place % 8, place % 8)
    assert set((rows - 4).tolist()) == {-2, -1, 0, 1, 2}
    assert {int(c) for c in columns} <= {1, 2, 3}
    shares = torch.bincount(rows - 2, minlength=5) / 5000
    assert float((shares - 0.2).abs().max()) < 4 * math.sqrt(0.16 / 5000)
    still, _ = Classes((10,), 0).draw(x, torch.zeros(5000), torch.Generator().manual_seed(0))
    assert torch.equal(still.amax(3), x.amax(3))


def test_the_loss_of_several_attributes_is_the_mean_of_their_cross_entropies() -> None:
    """Logits of all attributes follow each other."""
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, 2], [1, 0], [1, 1], [0, 0]])

    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return logits[: len(x)]

    found = Classes((2, 3), 0).loss(Constant(), torch.zeros(4, 1, 4, 4), labels)
    first = -logits[:, :2].log_softmax(1)[torch.arange(4), labels[:, 0]]
    second = -logits[:, 2:].log_softmax(1)[torch.arange(4), labels[:, 1]]
    torch.testing.assert_close(found, (first + second) / 2)


def test_the_learning_rate_rises_and_falls() -> None:
    """Linearly over a twentieth of the steps, then by half a cosine to nearly nothing; F.4's stays."""
    made = make(replace(EDM, epochs=25.0))
    rates = []
    for step in range(made.total):
        made.step = step
        rates.append(made.learning_rate)
    assert made.total == 100
    assert rates[:5] == pytest.approx([1e-3 * i / 5 for i in (1, 2, 3, 4, 5)])
    assert rates[5] == pytest.approx(1e-3)
    assert rates[5 + 95 // 2] == pytest.approx(5e-4, rel=0.03)
    assert 0 < rates[-1] < 1e-5
    assert all(a >= b for a, b in pairwise(rates[5:]))
    plain = make(replace(BINARY, epochs=25.0))
    plain.step = 90
    assert plain.learning_rate == 1e-3


def test_a_training_that_is_resumed_ends_as_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted after the first epoch and a step: bit for bit the same weights, learning rate and all."""
    run(EDM_LABELLED, tmp_path / "whole", data(EDM_LABELLED))
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            run(EDM_LABELLED, tmp_path / "parts", data(EDM_LABELLED))
    run(EDM_LABELLED, tmp_path / "parts", data(EDM_LABELLED))
    whole, parts = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "parts"))
    assert whole == parts


def test_its_end_is_part_of_what_a_training_is(tmp_path: Path) -> None:
    """The learning rate falls towards the last epoch: another number of epochs is another training."""
    run(EDM, tmp_path / "out", data(EDM))
    with pytest.raises(ValueError, match=r"holds a training with epochs 2 instead of 3"):
        run(replace(EDM, epochs=3.0), tmp_path / "out", data(EDM))


def test_the_weights_become_a_denoiser_of_their_levels(tmp_path: Path) -> None:
    """The loaded model denoises as the average of the training does, knows its levels, and samples in VP."""
    path = run(EDM_LABELLED, tmp_path / "out", data(EDM_LABELLED))
    network, card, kept = load_weights(path)
    model = load_model(str(tmp_path / "out"))
    assert (model.levels, model.classes, card.levels) == ((0.002, 80.0), 10, (0.002, 80.0))
    assert (card.width, card.attention, card.t_max) == (16, (), 0.0)
    assert {"spectrum", "mean", "images", "labels"} == set(kept)
    x, sigma = torch.randn(2, 1, 8, 8), torch.tensor([0.5, 20.0])

    def written_out(labels: Tensor) -> Tensor:
        level = sigma[:, None, None, None]
        gain = kept["spectrum"][-1] / (kept["spectrum"][-1] + level**2)
        inner = network(x / (level**2 + card.sigma_data**2).sqrt(), 4 * sigma.log(), labels)
        mean, out = kept["mean"][-1], level * gain.mean((2, 3), keepdim=True).sqrt()
        return mean + torch.fft.ifft2(gain * torch.fft.fft2(x - mean)).real + out * inner

    for label, row in ((3, 3), (None, 10)):
        expected = written_out(torch.full((2,), row))
        torch.testing.assert_close(model.denoiser(label)(x, sigma), expected, rtol=1e-4, atol=1e-5)


def test_held_out_losses_are_those_of_the_denoiser() -> None:
    """The loss at three levels, from the denoiser's square error on the same noise."""
    made = make(EDM_LABELLED)
    made.network.requires_grad_(requires_grad=False)
    measured = made.measure(made.network)
    noise = torch.randn(7, 1, 8, 8, generator=state.generator(CPU, EDM_LABELLED.seed, state.HELD_OUT))
    held_out = images(12, EDM_LABELLED.network, seed=1).first(7)
    for level, loss in zip(measured["sigma"], measured["loss"], strict=True):
        sigma, s = torch.tensor([level], dtype=torch.float64), made.card.sigma_data
        denoiser = Preconditioned(lambda x, t: made.network(x, t, held_out.labels), null_of(made), s)
        denoised = denoiser(held_out.tensor() + level * noise, sigma.expand(7))
        error = float((denoised - held_out.tensor()).square().mean())
        assert error / float(scales(sigma, null_of(made), s)[0]) ** 2 == pytest.approx(loss, rel=2e-3)


def test_attention_and_width_are_the_network_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the table of networks says is on the card and in the loaded weights."""
    name = "fashion-mnist-attention"
    monkeypatch.setitem(NETWORKS, name, replace(NETWORKS[name], width=16, attention=(2,)))
    config = replace(EDM, network=name, epochs=0.25)
    made = Images(images(35, name).pixels, images(35, name).labels, "grey")
    network, card, kept = load_weights(run(config, tmp_path / "out", (made, made)))
    assert len(kept["images"]) == 2
    assert (card.width, card.attention) == (16, (2,))
    assert "attend_middle.enter.weight" in network.state_dict()
    assert network.state_dict()["enter.weight"].shape[0] == 16


def test_recipes_choose_what_a_user_does_not() -> None:
    """F.4's numbers for the paper, the table's for the other, and a user's own before both."""
    paper, _ = check(TrainConfig("fashion-mnist", "paper"))
    assert (paper.epochs, paper.batch, paper.learning_rate) == (30.0, 256, 2e-4)
    edm, network = check(TrainConfig("fashion-mnist", batch=32))
    assert (edm.epochs, edm.batch, edm.learning_rate) == (network.epochs, 32, 5e-4)
