"""Batches that do not fit into memory."""

from pathlib import Path

import pytest
import torch
from small_training import BINARY, CLASSIFIER, CPU, data, make
from torch import Tensor

from softmode.training import memory
from softmode.training.config import TrainConfig
from softmode.training.state import Training
from softmode.training.train import run


def held(made: Training, count: int) -> int:
    """Bytes that the graph of a loss of some images really keeps, parameters left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in made.network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    terms = made.draw(torch.arange(count), torch.Generator().manual_seed(0))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = made.loss(made.network, *terms)
    del loss
    return sum(size for place, size in kept.items() if place not in own)


@pytest.mark.parametrize("config", [BINARY, CLASSIFIER], ids=lambda config: config.network)
def test_the_memory_of_an_image_is_what_its_gradient_keeps(config: TrainConfig) -> None:
    """Counted without allocating it, within a tenth of what 16 more images keep; random numbers stay as they were."""
    made = make(config)
    before = torch.get_rng_state()
    found = memory.kept_bytes(made)
    assert torch.equal(torch.get_rng_state(), before)
    assert found == pytest.approx((held(made, 24) - held(made, 8)) / 16, rel=0.1)


def test_a_batch_that_does_not_fit_is_refused_with_the_one_that_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is written; one image fewer than asked for fits here."""
    made = make(CLASSIFIER)
    per_image = memory.kept_bytes(made) + memory.image_bytes(made)
    monkeypatch.setattr(memory, "free_memory", lambda device: int(7.5 * per_image))
    with pytest.raises(ValueError, match=r"^batch: got 8; expected at most 7, which fits into the .* GB that are free"):
        run(CLASSIFIER, tmp_path / "out", data(CLASSIFIER))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(memory, "free_memory", lambda device: int(8.5 * per_image))
    run(CLASSIFIER, tmp_path / "out", data(CLASSIFIER))


def test_a_denoiser_s_batch_goes_through_a_processor_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of many images is no larger in memory than its parts."""
    made = make(BINARY)
    monkeypatch.setattr(Training, "images_at_once", lambda self, share: 2)
    monkeypatch.setattr(memory, "free_memory", lambda device: int(3 * memory.kept_bytes(made)))
    memory.check_batch(made)


def test_free_memory_is_read_from_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bytes; a system that does not tell is no reason to refuse."""
    (tmp_path / "meminfo").write_text("MemTotal: 16 kB\nMemAvailable:    12 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    assert memory.free_memory(CPU) == 12288
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "nothing")
    assert memory.free_memory(CPU) is None
    memory.check_batch(make(CLASSIFIER))
