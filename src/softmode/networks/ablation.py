r"""What a network's derivative lacks without its global channels: attention, and the statistics of its norms.

Taken apart are softmode's own attention, torch's `MultiheadAttention`, the self-attention of diffusers, EDM and EDM2,
and every norm whose statistics are over the field. What is frozen keeps its value at the state at which the derivative
is taken: the network's answer stays as it is, and its Jacobian lacks what went that way.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from softmode.inside import networks_in
from softmode.networks import edm2, edm_layers, unet

Attending = Literal["kept", "off", "frozen", "weights frozen"]
Norming = Literal["kept", "frozen"]


@dataclass(frozen=True, eq=False)
class GlobalParts:
    """The modules of a network through which a site can reach every other one.

    Args:
        attention: Blocks of self-attention between sites.
        norms: Norms whose statistics are over the field.
    """

    attention: tuple[nn.Module, ...]
    norms: tuple[nn.Module, ...]

    @classmethod
    def of(cls, denoiser: object) -> "GlobalParts":
        """Return those of the networks inside a denoiser; attention to a text is not between sites."""
        inside = list(dict.fromkeys(m for network in networks_in(denoiser) for m in network.modules()))
        return cls(tuple(filter(_attends, inside)), tuple(filter(_pools, inside)))

    @contextmanager
    def ablated(self, attention: Attending = "kept", norms: Norming = "kept") -> Iterator[None]:
        """Take parts out of the network, and put them back however the context is left.

        Args:
            attention: `off`: blocks add nothing, so that the answer changes as well. `frozen`: they add what they do at
                the state, and respond to nothing. `weights frozen`: values respond, and who attends to whom does not.
            norms: `frozen`: means and deviations over the field respond to nothing.
        """
        with ExitStack() as stack:
            for module in self.attention if attention != "kept" else ():
                handles = _freeze_weights(module) if attention == "weights frozen" else [_pass_by(module, attention)]
                for handle in handles:
                    stack.callback(handle.remove)
            for module in self.norms if norms == "frozen" else ():
                stack.callback(module.register_forward_hook(_frozen_norm, with_kwargs=True).remove)
            yield


def _of_diffusers(module: nn.Module) -> bool:
    return all(hasattr(module, name) for name in ("to_q", "to_k", "to_v", "heads"))


def _attends(module: nn.Module) -> bool:
    if isinstance(module, edm2.Block | edm_layers.Block):
        return module.heads > 0
    between_sites = _of_diffusers(module) and not getattr(module, "is_cross_attention", False)
    return isinstance(module, unet.Attention | nn.MultiheadAttention) or between_sites


def _pools(module: nn.Module) -> bool:
    """Return whether a norm's statistics are over the field: those of a batch are fixed, and EDM2's are of one site."""
    instance = nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d
    return isinstance(module, nn.GroupNorm | unet.GroupRMSNorm) or (
        isinstance(module, instance) and not module.track_running_stats
    )


def _pass_by(module: nn.Module, attention: Attending) -> RemovableHandle:
    """Let what passes a block by alone respond, with or without what the block adds, and return what undoes it."""

    def hook(_module: nn.Module, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
        if isinstance(output, tuple):
            return (hook(_module, args, named, output[0]), *output[1:])
        past = torch.zeros_like(output)
        if isinstance(module, unet.Attention):
            past = args[0]
        elif getattr(module, "residual_connection", False):
            past = (args[0] if args else named["hidden_states"]) / module.rescale_output_factor
        return past if attention == "off" else past + (output - past).detach()

    # the rest of a block of EDM or EDM2 is no attention
    place = _layers_of(module)[1] if isinstance(module, edm2.Block | edm_layers.Block) else module
    return place.register_forward_hook(hook, with_kwargs=True)


def _layers_of(block: edm2.Block | edm_layers.Block) -> tuple[nn.Module, nn.Module]:
    """Return what makes queries, keys and values in a block with self-attention, and what maps the answer back."""
    if isinstance(block, edm_layers.Block):
        return block.qkv, block.proj
    assert block.attn_qkv is not None
    assert block.attn_proj is not None
    return block.attn_qkv, block.attn_proj


def _freeze_weights(module: nn.Module) -> list[RemovableHandle]:
    """Keep who attends to whom from responding, by queries and keys that do not, and return what undoes it."""
    if isinstance(module, unet.Attention):
        return [module.enter.register_forward_hook(lambda _m, _a, out: _first_two_frozen(out, 1))]
    if isinstance(module, edm2.Block | edm_layers.Block):
        heads = module.heads

        def interleaved(_module: nn.Module, _args: Any, out: Tensor) -> Tensor:
            # queries, keys and values alternate along the channels of each head
            return _first_two_frozen(out.reshape(len(out), heads, -1, 3, *out.shape[2:]), 3).reshape(out.shape)

        return [_layers_of(module)[0].register_forward_hook(interleaved)]
    if isinstance(module, nn.MultiheadAttention):
        return [module.register_forward_pre_hook(_frozen_inputs, with_kwargs=True)]
    queries_and_keys = (getattr(module, name) for name in ("to_q", "to_k"))
    return [each.register_forward_hook(lambda _m, _a, out: out.detach()) for each in queries_and_keys]


def _first_two_frozen(out: Tensor, dim: int) -> Tensor:
    """Return queries, keys and values along a dimension, of which the last third alone responds."""
    query, key, value = out.chunk(3, dim)
    return torch.cat([query.detach(), key.detach(), value], dim)


def _frozen_inputs(
    _module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what torch's attention is called with, query and key detached."""
    kept = tuple(each.detach() if place < 2 else each for place, each in enumerate(args))
    return kept, {name: each.detach() if name in ("query", "key") else each for name, each in named.items()}


def _frozen_norm(module: nn.Module, args: tuple[Any, ...], _: dict[str, Any], output: Tensor) -> Tensor:
    """Return a norm's own output, which responds to its input alone and not to means and deviations over the field."""
    x: Tensor = args[0]
    groups = getattr(module, "groups", getattr(module, "num_groups", x.shape[1]))
    parts = x.detach().unflatten(1, (groups, -1)).flatten(2)
    if isinstance(module, unet.GroupRMSNorm):
        square, epsilon = parts.square().mean(2), unet.EPSILON
    else:
        assert isinstance(module.eps, float)
        square, epsilon = parts.var(2, correction=0), module.eps
    scale = (square + epsilon).rsqrt().repeat_interleave(x.shape[1] // groups, 1)
    if isinstance(module.weight, Tensor):
        scale = scale * module.weight
    return output.detach() + (x - x.detach()) * scale.reshape(*scale.shape, *[1] * (x.ndim - 2)).to(x.dtype)
