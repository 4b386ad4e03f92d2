"""Devices that are not here."""

import pytest
import torch

from softmode.device import parse_device


@pytest.mark.parametrize("name", ["cuda:99", "meta", "mps:7", "privateuseone", "", "cpu:x"])
def test_devices_that_are_not_here_are_refused_in_a_line(name: str) -> None:
    """With their name and no page of torch's."""
    with pytest.raises(ValueError, match=r"^device: got ") as caught:
        parse_device(name)
    assert repr(name) in str(caught.value)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)
    assert parse_device("cpu") == torch.device("cpu")
