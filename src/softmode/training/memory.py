"""Whether a batch fits into memory, known before any of it is allocated."""

from pathlib import Path

import torch
from torch import Tensor

from softmode.training.state import Training

MEMINFO = Path("/proc/meminfo")


def check_batch(training: Training) -> None:
    """Raise a ValueError naming the largest batch that fits, where a step needs more memory than there is."""
    free = free_memory(training.device)
    share = training.settings[1] // training.workers.count
    at_once = training.images_at_once(share)
    batch = share * image_bytes(training)
    if free is None or batch + at_once * kept_bytes(training) <= free:
        return
    per_image = image_bytes(training) + kept_bytes(training) * at_once / share
    raise ValueError(
        f"batch: got {training.settings[1]}; expected at most {int(free / per_image) * training.workers.count}, which "
        f"fits into the {free / 1e9:.2g} GB that are free on {training.device}"
    )


def image_bytes(training: Training) -> int:
    """Return the memory of an image of a batch: the image, its noise and its state in single precision."""
    return 3 * 4 * training.images.pixels[0].numel()


def kept_bytes(training: Training) -> float:
    """Return the memory that the gradient of one image's loss keeps, from a forward pass that allocates nothing."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        return tensor

    count = 2
    with torch.device("meta"):
        network = training.card.build()
        x, t = torch.empty(count, *training.images.shape), torch.empty(count, dtype=torch.float64)
    own = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        # the graph holds the tensors until all of them are counted
        output = network(x) if training.kind.architecture == "classifier" else network(x, t)
    del output
    size = sum(size for place, size in kept.items() if place not in own) / count
    return size / 2 if training.bfloat16 else size


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that are free on a device; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        return None
