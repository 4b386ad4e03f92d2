"""What made a run: versions and machine."""

import platform
from importlib.metadata import version

import torch


def versions() -> dict[str, str]:
    """Return the versions of everything whose change may change a number."""
    return {name: version(name) for name in ("softmode", "torch", "numpy", "scipy")}


def machine() -> dict[str, str | int]:
    """Return the Python version, the platform and the number of threads in use."""
    return {"python": platform.python_version(), "platform": platform.platform(), "threads": torch.get_num_threads()}
