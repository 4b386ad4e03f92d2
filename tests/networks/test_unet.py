"""The U-Net against the paper's F.3, written out a second time."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from softmode.networks.unet import GroupRMSNorm, UNet, time_embedding

D = 128


def network(channels: int = 1, classes: int = 0, seed: int = 0) -> UNet:
    """A network whose weights are all different from zero, in float64."""
    torch.manual_seed(seed)
    unet = UNet(channels, (classes,) if classes else ()).double()
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return unet


def states(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def block_shapes(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    """The tensors of one residual block (F.3.2)."""
    shapes: dict[str, tuple[int, ...]] = {
        f"{name}.norm1.weight": (inputs,),
        f"{name}.norm1.bias": (inputs,),
        f"{name}.conv1.weight": (outputs, inputs, 3, 3),
        f"{name}.conv1.bias": (outputs,),
        f"{name}.project.weight": (outputs, D),
        f"{name}.project.bias": (outputs,),
        f"{name}.norm2.weight": (outputs,),
        f"{name}.norm2.bias": (outputs,),
        f"{name}.conv2.weight": (outputs, outputs, 3, 3),
        f"{name}.conv2.bias": (outputs,),
    }
    if inputs != outputs:
        shapes |= {f"{name}.residual.weight": (outputs, inputs, 1, 1), f"{name}.residual.bias": (outputs,)}
    return shapes


def expected_shapes(channels: int, classes: int) -> dict[str, tuple[int, ...]]:
    """Every tensor of F.3: 64 and 128 channels, a bottleneck of 128, concatenations of 128 + 128 and 128 + 64."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in (0, 2):
        shapes |= {f"embed.{layer}.weight": (D, D), f"embed.{layer}.bias": (D,)}
    for name, inputs, outputs in (
        ("enter", channels, 64),
        ("down1", 64, 64),
        ("down2", 128, 128),
        ("leave", 64, channels),
    ):
        shapes |= {f"{name}.weight": (outputs, inputs, 3, 3), f"{name}.bias": (outputs,)}
    for name, inputs, outputs in (
        ("encode1", 64, 64),
        ("encode2", 64, 128),
        ("middle1", 128, 128),
        ("middle2", 128, 128),
        ("decode2", 256, 128),
        ("decode1", 192, 64),
    ):
        shapes |= block_shapes(name, inputs, outputs)
    shapes |= {"norm.weight": (64,), "norm.bias": (64,)}
    return shapes | ({"label.weight": (classes + 1, D)} if classes else {})


def written_out(weights: dict[str, Tensor], x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
    """F.3 from top to bottom, with the weights of a network."""

    def linear(name: str, h: Tensor) -> Tensor:
        return h @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def convolve(name: str, h: Tensor, stride: int = 1) -> Tensor:
        kernel = weights[f"{name}.weight"]
        return functional.conv2d(h, kernel, weights[f"{name}.bias"], stride, padding=kernel.shape[-1] // 2)

    def silu(h: Tensor) -> Tensor:
        return h / (1 + torch.exp(-h))

    def norm(name: str, h: Tensor) -> Tensor:
        groups = h.reshape(len(h), 8, -1)
        centred = groups - groups.mean(2, keepdim=True)
        scaled = centred / torch.sqrt(centred.square().mean(2, keepdim=True) + 1e-5)
        gain, bias = (weights[f"{name}.{part}"].reshape(1, -1, 1, 1) for part in ("weight", "bias"))
        return scaled.reshape(h.shape) * gain + bias

    def block(name: str, h: Tensor) -> Tensor:
        inner = convolve(f"{name}.conv1", silu(norm(f"{name}.norm1", h)))
        inner = inner + linear(f"{name}.project", embedding)[:, :, None, None]
        inner = convolve(f"{name}.conv2", silu(norm(f"{name}.norm2", inner)))
        return inner + (convolve(f"{name}.residual", h) if f"{name}.residual.weight" in weights else h)

    def double(h: Tensor) -> Tensor:
        return h.repeat_interleave(2, 2).repeat_interleave(2, 3)

    omega = torch.tensor([10000 ** (-k / D) for k in range(D // 2)], dtype=torch.float64)
    phase = t[:, None] * omega
    embedding = linear("embed.2", silu(linear("embed.0", torch.cat([torch.sin(phase), torch.cos(phase)], 1))))
    if labels is not None:
        embedding = embedding + weights["label.weight"][labels]
    fine = block("encode1", convolve("enter", x))
    coarse = block("encode2", convolve("down1", fine, 2))
    h = block("middle2", block("middle1", convolve("down2", coarse, 2)))
    h = block("decode2", torch.cat([double(h), coarse], 1))
    h = block("decode1", torch.cat([double(h), fine], 1))
    return convolve("leave", silu(norm("norm", h)))


def test_the_time_embedding_is_the_papers() -> None:
    """sin and cos of t 10000^(-k/128), k = 0..63, exact to float64 also at t = 50."""
    t = torch.tensor([1e-3, 0.5, 50.0], dtype=torch.float64)
    found = time_embedding(t)
    assert found.shape == (3, D)
    for row, time in zip(found.tolist(), t.tolist(), strict=True):
        for k in range(64):
            omega = math.exp(-k / 128 * math.log(10000))
            assert row[k] == pytest.approx(math.sin(omega * time), abs=1e-13)
            assert row[64 + k] == pytest.approx(math.cos(omega * time), abs=1e-13)


def test_the_time_embedding_does_not_round_single_precision_times_again() -> None:
    """The phase of a float32 time is computed in float64."""
    t = torch.tensor([49.7], dtype=torch.float32)
    torch.testing.assert_close(time_embedding(t), time_embedding(t.double()), rtol=0, atol=0)


@pytest.mark.parametrize(("channels", "classes"), [(1, 0), (3, 0), (1, 10)])
def test_every_tensor_has_the_shape_of_the_paper(channels: int, classes: int) -> None:
    """Names and shapes of F.3, and no other: 1x1 convolutions only where a block's channels differ."""
    found = {
        name: tuple(value.shape) for name, value in UNet(channels, (classes,) if classes else ()).state_dict().items()
    }
    assert found == expected_shapes(channels, classes)


def test_number_of_parameters() -> None:
    """1,833,793 for one channel without classes, 11 x 128 more with ten."""
    count = sum(parameter.numel() for parameter in UNet().parameters())
    assert count == 1_833_793
    assert sum(parameter.numel() for parameter in UNet(1, (10,)).parameters()) == count + 11 * 128


@pytest.mark.parametrize(("channels", "classes"), [(1, 0), (3, 4)])
def test_the_network_is_the_papers_written_out(channels: int, classes: int) -> None:
    """The whole forward pass against an independent one in float64, at different times and labels in one batch."""
    unet = network(channels, classes)
    x, t = states(3, channels, 8, 12), torch.tensor([1e-3, 0.7, 50.0], dtype=torch.float64)
    labels = torch.tensor([0, 3, 4]) if classes else None
    expected = written_out(unet.state_dict(), x, t, labels)
    torch.testing.assert_close(unet(x, t, labels), expected, rtol=1e-10, atol=1e-10)
    assert expected.std() > 0.1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(8, 8), (12, 12), (28, 32), (4, 4)])
def test_the_output_has_the_shape_of_the_input(channels: int, size: tuple[int, int]) -> None:
    """Any sides that divide by 4; the bottleneck has 128 channels at a quarter of them."""
    unet = UNet(channels)
    inner: list[tuple[int, ...]] = []
    for block in (unet.middle1, unet.middle2):
        block.register_forward_hook(lambda _, inputs, output: inner.extend([inputs[0].shape, output.shape]))
    x = torch.randn(2, channels, *size)
    assert unet(x, torch.tensor([0.1, 10.0])).shape == x.shape
    assert inner == [(2, 128, size[0] // 4, size[1] // 4)] * 4


def test_an_untrained_network_predicts_its_last_bias() -> None:
    """The last convolution starts at zero, so the prediction does not depend on the state."""
    unet = UNet()
    assert torch.equal(unet.leave.weight, torch.zeros_like(unet.leave.weight))
    noise = unet(torch.randn(2, 1, 8, 8), torch.tensor([0.1, 10.0]))
    torch.testing.assert_close(noise, unet.leave.bias.expand_as(noise), rtol=0, atol=0)


def test_images_of_a_batch_do_not_see_each_other() -> None:
    """Each image's prediction is the one it has alone."""
    unet = network()
    x, t = states(3, 1, 8, 8), torch.tensor([0.01, 1.0, 30.0], dtype=torch.float64)
    alone = torch.cat([unet(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(unet(x, t), alone, rtol=1e-10, atol=1e-10)


def test_no_label_is_the_last_row_of_the_embedding() -> None:
    """None and `classes` are the same; the classes are different from it and from each other."""
    unet = network(classes=2)
    x, t = states(1, 1, 8, 8), torch.tensor([1.0], dtype=torch.float64)
    without = unet(x, t)
    assert torch.equal(without, unet(x, t, torch.tensor([2])))
    zero, one = (unet(x, t, torch.tensor([label])) for label in (0, 1))
    assert (zero - without).abs().max() > 1e-3
    assert (one - without).abs().max() > 1e-3
    assert (zero - one).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 1, 8, 10), (2, 1, 6, 8)])
def test_states_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    """Another number of channels, or a side that does not divide by 4: the shape is named."""
    with pytest.raises(ValueError, match="x: got shape") as caught:
        UNet(1)(torch.zeros(shape), torch.ones(2))
    assert str(shape) in str(caught.value)
    assert "[batch, 1, height, width]" in str(caught.value)


def test_labels_for_a_network_without_classes_are_refused() -> None:
    """They are not silently ignored."""
    with pytest.raises(ValueError, match=r"labels: .* without labels"):
        UNet()(torch.zeros(1, 1, 8, 8), torch.ones(1), torch.tensor([0]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": 0}, "channels, labels: got"),
        ({"labels": (10, 0)}, "channels, labels: got"),
        ({"width": 12}, "width: got 12; expected a multiple of 8"),
        ({"attention": (1,)}, r"attention: got \(1,\); expected factors 2 and 4"),
    ],
)
def test_impossible_networks_are_refused(options: dict[str, Any], words: str) -> None:
    """No channels, a label without values, groups that do not divide the channels, attention where no stage is."""
    with pytest.raises(ValueError, match=words):
        UNet(**options)


def test_an_rms_norm_leaves_the_mean() -> None:
    """Against the definition in loops; a shift of the whole image comes through, unlike in a group norm."""
    norm, x = GroupRMSNorm(4, 8), torch.randn(3, 8, 4, 6, generator=torch.Generator().manual_seed(0)) + 0.3
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    found = norm(x).detach()
    for image in range(3):
        for channel in range(8):
            group = x[image, channel - channel % 2 : channel - channel % 2 + 2]
            expected = x[image, channel] / group.square().mean().sqrt() * norm.weight[channel] + norm.bias[channel]
            torch.testing.assert_close(found[image, channel], expected.detach(), rtol=1e-4, atol=1e-5)
    assert float((norm(x + 1) - norm(x)).detach().abs().max()) > 0.1
    plain = torch.nn.GroupNorm(4, 8)
    assert float((plain(x + 1) - plain(x)).detach().abs().max()) < 1e-4


def test_the_forward_derivative_of_an_rms_norm_is_that_of_its_values() -> None:
    """Which has a formula of its own: against the backward one, and once more differentiated."""
    norm = GroupRMSNorm(4, 8).double()
    torch.nn.init.normal_(norm.weight)
    stream = torch.Generator().manual_seed(0)
    x, v, u = (torch.randn(3, 8, 4, 6, generator=stream, dtype=torch.float64) + 0.3 for _ in range(3))

    def along(z: Tensor) -> Tensor:
        return torch.func.jvp(norm, (z,), (v,))[1]

    found, transposed = along(x), torch.func.vjp(norm, x)[1]
    torch.testing.assert_close((found * u).sum(), (transposed(u)[0] * v).sum())
    torch.testing.assert_close(torch.func.jvp(norm, (x,), (v,))[0], norm(x))
    h = 1e-5
    differences = (along(x + h * u) - along(x - h * u)) / (2 * h)
    torch.testing.assert_close(torch.func.jvp(along, (x,), (u,))[1], differences, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(
        (torch.func.vjp(along, x)[1](u)[0] * u).sum(), (differences * u).sum(), rtol=1e-6, atol=1e-8
    )


def attend(weights: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Self-attention site by site and head by head, in loops over the definition."""
    h = functional.group_norm(x, 8, weights[f"{name}.norm.weight"], weights[f"{name}.norm.bias"])
    project = functional.conv2d(h, weights[f"{name}.enter.weight"], weights[f"{name}.enter.bias"]).flatten(2)
    count, channels, sites = x.shape[0], x.shape[1], x[0, 0].numel()
    out = torch.zeros(count, channels, sites, dtype=x.dtype)
    for image in range(count):
        query, key, value = project[image].split(channels)
        for head in range(channels // 32):
            own = slice(32 * head, 32 * head + 32)
            for site in range(sites):
                logits = query[own, site] @ key[own] / math.sqrt(32)
                out[image, own, site] = value[own] @ (logits.exp() / logits.exp().sum())
    out = out.reshape(x.shape)
    return x + functional.conv2d(out, weights[f"{name}.leave.weight"], weights[f"{name}.leave.bias"])


def test_self_attention_is_its_definition() -> None:
    """At a quarter of the sides, in the bottleneck, in four heads; and its derivative forward."""
    torch.manual_seed(0)
    unet = UNet(1, attention=(4,)).double()
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    x = states(2, 128, 3, 2)
    expected = attend(unet.state_dict(), "attend_middle", x)
    torch.testing.assert_close(unet.attend_middle(x), expected, rtol=1e-10, atol=1e-10)
    assert (expected - x).abs().max() > 0.01
    x, t = states(1, 1, 8, 8), torch.ones(1, dtype=torch.float64)
    with_it, v = unet(x, t), torch.randn_like(x)
    _, slope = torch.func.jvp(lambda y: unet(y, t), (x,), (v,))
    ahead, behind = (unet(x + sign * 1e-5 * v, t) for sign in (1, -1))
    torch.testing.assert_close(slope, (ahead - behind) / 2e-5, rtol=1e-6, atol=1e-8)
    unet.attend_middle = torch.nn.Identity()
    assert (unet(x, t) - with_it).abs().max() > 1e-4


def test_each_attribute_has_rows_of_its_own_and_any_may_be_missing() -> None:
    """The embedding of (1, none) of attributes of 2 and 3 values is that of rows 1 and 3 + 3."""
    torch.manual_seed(0)
    unet = UNet(1, (2, 3)).double()
    torch.nn.init.normal_(unet.leave.weight)
    x, t = states(1, 1, 8, 8), torch.ones(1, dtype=torch.float64)
    assert unet.label.weight.shape == (2 + 1 + 3 + 1, D)
    found = unet(x, t, torch.tensor([[1, 3]]))
    with torch.no_grad():
        kept = unet.label.weight.clone()
        unet.label.weight.zero_()
        unet.label.weight[[2, 6]] = (kept[1] + kept[6]) / 2
    torch.testing.assert_close(unet(x, t), found, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(unet(x, t, torch.tensor([[2, 3]])), found, rtol=1e-12, atol=1e-12)
