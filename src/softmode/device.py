"""The device a user names, checked before anything is computed."""

import torch


def parse_device(name: str) -> torch.device:
    """Return the device of this name.

    Raises:
        ValueError: If it is not available here.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).tolist()
    except (RuntimeError, AssertionError, ImportError) as error:
        # of some devices torch says in a page that it lacks them
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise ValueError(f"device: got {name!r}, which is not available here ({reason}); use cpu") from None
    return device
