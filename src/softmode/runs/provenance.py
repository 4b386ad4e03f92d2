"""What made a run: versions and machine."""

import math
import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

CGROUP = Path("/sys/fs/cgroup")


def versions() -> dict[str, str]:
    """Return the versions of everything whose change may change a number."""
    return {name: version(name) for name in ("softmode", "torch", "numpy", "scipy")}


def machine() -> dict[str, str | int]:
    """Return the Python version, the platform and the number of threads in use."""
    return {"python": platform.python_version(), "platform": platform.platform(), "threads": torch.get_num_threads()}


def free_memory() -> float:
    """Return the bytes of memory that can be had at once; infinity where the system does not say."""
    return min(_system_memory(), _container_memory())


def _container_memory() -> float:
    """Return what is left of the limit that a container sets, which the system's own number does not know."""
    try:
        limit, used = ((CGROUP / name).read_text() for name in ("memory.max", "memory.current"))
        return float(limit) - float(used)
    except (OSError, ValueError):
        return math.inf


def _system_memory() -> float:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            available = next(line for line in file if line.startswith("MemAvailable"))
        return float(available.split()[1]) * 1024
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return math.inf
