"""The processes that share the batches of a training."""

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from softmode.training.config import TrainConfig


@dataclass(frozen=True, eq=False)
class Workers:
    """The processes that share a batch: this one's rank, and what averages gradients between them.

    Args:
        rank: This process.
        count: How many there are.
        accelerator: accelerate's Accelerator where there are several.
    """

    rank: int = 0
    count: int = 1
    accelerator: Any = None

    @classmethod
    def of(cls, device: torch.device, config: TrainConfig) -> "Workers":
        """Return the processes that `accelerate launch` or torchrun started, or this one alone."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls()
        if config.batch is None or config.batch % count:
            raise ValueError(f"batch: got {config.batch}; expected a multiple of {count}, the number of processes")
        try:
            from accelerate import Accelerator
        except ImportError:
            raise ValueError("device: several processes need accelerate; pip install 'softmode[train]'") from None
        # the config says in which precision layers compute, not the settings of accelerate
        accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no")
        return cls(accelerator.process_index, count, accelerator)

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return the network with gradients averaged over processes."""
        return network if self.accelerator is None else self.accelerator.prepare(network)

    def hold(self, network: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Return the context in which gradients wait for the last part of a batch before they are averaged."""
        return nullcontext() if self.accelerator is None or last else self.accelerator.no_sync(network)

    def mean(self, loss: Tensor) -> float:
        """Return the mean of a number over processes."""
        return float(loss if self.accelerator is None else self.accelerator.reduce(loss, "mean"))

    def first(self, text: str) -> str:
        """Return the first process's text, in every process."""
        if self.accelerator is None:
            return text
        from accelerate.utils import broadcast_object_list

        shared: list[str] = broadcast_object_list([text])
        return shared[0]

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()
