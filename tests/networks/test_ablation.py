"""What a network's Jacobian lacks without attention and norms: dense float64 matrices and finite differences."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from helpers import dense
from helpers.random import normal
from softmode.denoiser import Autocast, Guided
from softmode.inside import networks_in
from softmode.networks.ablation import GlobalParts
from softmode.networks.diffusers_denoiser import Conditioned, DiffusersDenoiser
from softmode.networks.diffusers_scheduler import noise_table
from softmode.networks.edm import EDM, as_config
from softmode.networks.edm2 import EDM2, EDM2Config
from softmode.networks.load import load_model
from softmode.networks.unet import Attention, GroupRMSNorm, UNet

diffusers = pytest.importorskip("diffusers")

SIDE = 8


class TorchAttention(nn.Module):
    """torch's own attention between the sites of a field, added to it."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, channel, y, x]."""
        sites = x.flatten(2).mT
        attended = self.attend(sites, key=sites, value=sites, need_weights=False)[0]
        return x + attended.mT.reshape(x.shape)


def _edm2() -> EDM2:
    config = EDM2Config(SIDE, 1, 0, model_channels=8, channel_mult=(1, 2), num_blocks=1, attn_resolutions=(4,),
                        channels_per_head=4)  # fmt: skip
    network = EDM2(config)
    # a gain of zero would leave nothing of the network
    nn.init.ones_(network.unet.out_gain)
    return network


def _edm() -> nn.Module:
    shape = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4]}
    return EDM(as_config("VPPrecond", {"img_resolution": SIDE, "img_channels": 1, **shape}))


def _diffusers() -> nn.Module:
    return diffusers.UNet2DModel(
        sample_size=SIDE, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8, 16),
        norm_num_groups=4, down_block_types=("DownBlock2D", "AttnDownBlock2D"), attention_head_dim=4,
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip


def _unet(attention: tuple[int, ...] = (4,), rms: bool = True) -> nn.Module:
    network = UNet(width=8, attention=attention, rms=rms)
    for parameter in network.parameters():  # what starts at zero must show
        nn.init.normal_(parameter, std=0.3)
    return network


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "softmode": _unet,
    "softmode group norm": lambda: _unet(rms=False),
    "torch": lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), TorchAttention(), nn.Conv2d(4, 1, 3, padding=1)),
    "diffusers": _diffusers,
    "edm2": _edm2,
    "edm": _edm,
}
# whose blocks add to what comes in themselves
RESIDUAL = ("softmode", "softmode group norm", "diffusers")
families = pytest.mark.parametrize("family", FAMILIES)


def made(family: str) -> tuple[nn.Module, Callable[[Tensor], Tensor], GlobalParts]:
    """Return a network of a family, the field that it makes of one, and its global parts."""
    torch.manual_seed(0)
    network = FAMILIES[family]().double().eval().requires_grad_(False)

    def field(x: Tensor) -> Tensor:
        if family == "torch":
            return network(x)
        out = network(x, torch.full((len(x),), 0.7, dtype=x.dtype))
        return out.sample if family == "diffusers" else out

    return network, field, GlobalParts.of(field)


X = normal(1, 1, SIDE, SIDE, seed=5)


def jacobian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the dense Jacobian, of torch's plain attention: its fused one goes through no vmap."""
    with sdpa_kernel(SDPBackend.MATH):
        return dense.jacobian(function, x)


@families
def test_what_is_frozen_keeps_its_value_and_everything_is_put_back(family: str) -> None:
    """The answer stays the same to the last digits while it is frozen, and bit for bit afterwards, after errors too."""
    _, field, parts = made(family)
    assert len(parts.attention) == {"diffusers": 4, "edm2": 4, "edm": 3}.get(family, 1)
    before, slope = field(X), jacobian(field, X)
    for attention, norms in (("frozen", "kept"), ("weights frozen", "kept"), ("kept", "frozen"), ("frozen", "frozen")):
        with parts.ablated(attention, norms):
            torch.testing.assert_close(field(X), before, rtol=1e-12, atol=1e-12)
    with parts.ablated("off"):
        assert not torch.allclose(field(X), before, rtol=1e-3)
    with pytest.raises(RuntimeError, match="planted"), parts.ablated("off", "frozen"):
        raise RuntimeError("planted")
    assert torch.equal(field(X), before)
    assert torch.equal(jacobian(field, X), slope)


@families
def test_frozen_attention_is_what_differences_give_with_what_it_added(family: str) -> None:
    """What every block added at the state is put in its place at states beside it; what passes it by goes on."""
    _, field, parts = made(family)
    with parts.ablated("frozen"):
        found = jacobian(field, X)
    kept: dict[nn.Module, Tensor] = {}

    def put_in(module: nn.Module, args: tuple[Tensor, ...], out: Any) -> Any:
        past = args[0] / getattr(module, "rescale_output_factor", 1.0) if family in RESIDUAL else 0.0
        added = out[0] if isinstance(out, tuple) else out
        added = past + kept.setdefault(module, added - past)
        return (added, *out[1:]) if isinstance(out, tuple) else added

    for block in parts.attention:
        place = {"edm2": "attn_proj", "edm": "proj"}.get(family, "")
        block.get_submodule(place).register_forward_hook(put_in)
    field(X)
    columns, h = [], 1e-5
    for push in h * torch.eye(X.numel(), dtype=X.dtype).reshape(-1, *X.shape):
        columns.append((field(X + push) - field(X - push)).flatten() / (2 * h))
    torch.testing.assert_close(found, torch.stack(columns, 1), rtol=1e-6, atol=1e-7)


@families
def test_frozen_weights_leave_the_values(family: str) -> None:
    """Neither all of attention's response nor none of it."""
    _, field, parts = made(family)
    whole = jacobian(field, X)
    with parts.ablated("frozen"):
        without = jacobian(field, X)
    with parts.ablated("weights frozen"):
        values = jacobian(field, X)
    size = (whole - without).norm()
    assert (whole - values).norm() > 1e-3 * size
    assert (values - without).norm() > 1e-3 * size


def test_frozen_weights_of_the_unet_by_hand() -> None:
    """softmax(q.k) at the state, times values that are linear: the block's Jacobian is that of a fixed matrix."""
    torch.manual_seed(1)
    block = Attention(8, rms=True).double().requires_grad_(False)
    nn.init.normal_(block.leave.weight, std=0.3)
    x = normal(1, 8, 3, 3, seed=2)
    query, key, _ = block.enter(block.norm(x)).flatten(2).unflatten(1, (3, 1, -1)).unbind(1)
    weights = (query.mT @ key / 8**0.5).softmax(-1)

    def fixed(z: Tensor) -> Tensor:
        value = block.enter(block.norm(z)).flatten(2).unflatten(1, (3, 1, -1))[:, 2]
        return z + block.leave((value @ weights.mT).flatten(1, 2).unflatten(-1, (3, 3)))

    with GlobalParts.of(block).ablated("weights frozen"):
        torch.testing.assert_close(jacobian(block, x), jacobian(fixed, x))


@pytest.mark.parametrize(
    "norm",
    [nn.GroupNorm(2, 4), GroupRMSNorm(2, 4), nn.InstanceNorm2d(4, affine=True)],
    ids=["group", "rms", "instance"],
)
def test_a_frozen_norm_is_a_diagonal_matrix(norm: nn.Module) -> None:
    """Weight over deviation of the group at every site, where the norm itself is dense."""
    norm = norm.double()
    nn.init.normal_(norm.weight)
    x = 3 + normal(1, 4, 5, 5, seed=3)
    parts = x.reshape(1, 2 if not isinstance(norm, nn.InstanceNorm2d) else 4, -1)
    square = parts.square().mean(2) if isinstance(norm, GroupRMSNorm) else parts.var(2, correction=0)
    scale = (square + 1e-5).rsqrt()[0].repeat_interleave(4 // parts.shape[1]) * norm.weight
    dense_one = jacobian(norm, x).detach()
    assert (dense_one - dense_one.diag().diag()).abs().max() > 1e-3
    with GlobalParts.of(norm).ablated(norms="frozen"):
        torch.testing.assert_close(jacobian(norm, x), torch.diag(scale.repeat_interleave(25)).detach())


def test_a_convolutional_network_is_local_once_its_norms_are_frozen() -> None:
    """Three convolutions of 3x3 with group norm between them reach three sites; the norms' statistics reach all."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 8, 3, padding=1),
        nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 1, 3, padding=1),
    ).double()  # fmt: skip
    x = normal(1, 1, 12, 12, seed=4)
    at = torch.cartesian_prod(torch.arange(12), torch.arange(12))
    far = (at[:, None] - at).abs().amax(-1) > 3
    parts = GlobalParts.of(network)
    assert (len(parts.attention), len(parts.norms)) == (0, 2)
    assert jacobian(network, x)[far].abs().max() > 1e-4
    with parts.ablated(norms="frozen"):
        assert jacobian(network, x)[far].abs().max() == 0


def test_attention_to_a_text_is_not_between_sites() -> None:
    """Of a block of text and sites the first attends to sites, the second to the text: one is found."""
    block = diffusers.models.attention.BasicTransformerBlock(8, 2, 4, cross_attention_dim=6)
    assert GlobalParts.of(block).attention == (block.attn1,)


def test_networks_are_found_wherever_a_denoiser_holds_them() -> None:
    """In closures, partial functions, methods, attributes and globals; none in an exact denoiser."""
    network = nn.Conv2d(1, 1, 1)

    class Held:
        def __init__(self) -> None:
            self.inner = [network]

        def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
            return self.inner[0](x)

    for denoiser in (
        network,
        lambda x, sigma: network(x),
        partial(lambda n, x: n(x), network),
        Held(),
        Held().__call__,
    ):
        assert networks_in(denoiser) == [network]
    assert networks_in(lambda x, sigma: x / 2) == []


@pytest.mark.parametrize(("name", "attention"), [("fashion-mnist", 0), ("fashion-mnist-attention", 1), ("avatars", 0)])
def test_the_parts_of_shipped_networks_are_found(name: str, attention: int) -> None:
    """Inside the preconditioning, with a class bound or without: two norms in each of six blocks, and those beside."""
    model = load_model(name)
    for label in (None, 3) if model.classes else (None,):
        parts = GlobalParts.of(model.denoiser(label))
        assert (len(parts.attention), len(parts.norms)) == (attention, 13 + attention)


def test_networks_of_other_families_are_found_inside_their_denoisers() -> None:
    """In those of diffusers with a scheduler, of EDM2 with a class, with guidance, and in lower precision."""
    network, _, _ = made("diffusers")
    table = noise_table(diffusers.DDPMScheduler())
    assert networks_in(DiffusersDenoiser(Conditioned(network, {}), table, network)) == [network]
    network, other = _edm2(), _edm2()
    assert networks_in(partial(network, label=3)) == [network]
    assert networks_in(Autocast(network, torch.bfloat16)) == [network]
    assert networks_in(Guided(network, other, lambda sigma: sigma)) == [network, other]
