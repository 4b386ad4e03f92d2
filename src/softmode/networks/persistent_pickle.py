"""Read the pickles of NVIDIA's EDM and EDM2 repositories without running them.

Such a file is a pickle of persistent objects, each a record with the source code of its class, never looked at here,
and its state; every tensor's storage is a file of torch's legacy format inside, again made of pickles. Both levels go
through the one unpickler that runs nothing.
"""

import mmap
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from softmode.files import regular_file
from softmode.message import first_line, quote
from softmode.networks.inert_pickle import Held, Maker, Names, Source, common_names, entries, legacy_storage, load

# what a network's class is read by
PREFIXES = {
    "Precond": "edm2", "EDMPrecond": "edm", "VPPrecond": "edm", "VEPrecond": "edm", "iDDPMPrecond": "edm"
}  # fmt: skip
# arguments that change nothing beyond rounding of what an evaluated network computes
IGNORED = frozenset({"use_fp16", "dropout"})
MOST_MODULES = 10**4
ARCHIVE = b"PK\x03\x04"

Config = TypeVar("Config")


class Record(dict[str, Any]):
    """The state of a module or of a dictionary, by name, and the name of its class; nothing of it is ever called."""

    name: str = ""

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Take over a module's attributes as entries."""
        self.update(state)


def read_persistent(
    path: str | Path, prefix: str, make: Callable[[str, Mapping[str, Any]], Config]
) -> tuple[dict[str, Tensor], Config]:
    """Return the weights and the config of the network in an official pickle, without running any of it.

    Args:
        path: The file.
        prefix: Of which family it should be, `edm2` or `edm`.
        make: Maps the name of its class and what it was made with to its config.

    Raises:
        ValueError: If the file is missing or truncated, names anything unknown, or holds no network of the family.
    """
    path = regular_file("weights", path)
    source = Source(path, f"an official {prefix.upper()} pickle")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            size = len(content)
            if content[: len(ARCHIVE)] == ARCHIVE:
                raise source.refusal("is an archive of torch.save (the checkpoints of score_sde are score_sde:FILE)")
            found = load(content, _names(source), source)
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and str(error).startswith("weights:"):
            raise
        raise source.refusal(f"cannot be read ({first_line(error)})") from None
    alone = isinstance(found, Record) and found.name
    network = found if alone or not isinstance(found, dict) else found.get("ema")
    if not isinstance(network, Record) or PREFIXES.get(network.name) != prefix:
        raise source.refusal(_other(network, prefix))
    try:
        state, config = _state(network), make(network.name, _arguments(network))
        if sum(tensor.nbytes for tensor in state.values()) > size:
            raise ValueError("has tensors of more bytes than the file")
    except (TypeError, ValueError) as error:
        raise source.refusal(f"cannot be used ({first_line(error)})") from None
    return state, config


def _other(network: object, prefix: str) -> str:
    """Return what is wrong with something that is no network of a family."""
    name = network.name if isinstance(network, Record) else ""
    if family := PREFIXES.get(name):
        return f"holds a network of {family.upper()}, a {name}: name it {family}:FILE"
    *first, last = (each for each, of in PREFIXES.items() if of == prefix)
    known = f"{', '.join(first)} or {last}" if first else last
    return f"holds {f'{quote(name)} and ' if name else ''}no {prefix.upper()} network ({known}, alone or as 'ema')"


def _names(source: Source) -> Names:
    """Return the names of the file itself."""
    return common_names() | {
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): Maker(_record),
        ("torch.storage", "_load_from_bytes"): Maker(partial(legacy_storage, source=source)),
        ("torch.nn.modules.container", "ModuleDict"): Record,
        ("dnnlib.util", "EasyDict"): Record,
    }


def _record(meta: Mapping[str, Any]) -> Record:
    record = Record(meta["state"] or {})
    name = meta["class_name"]
    record.name = name if isinstance(name, str) else ""
    return record


def _state(network: Record) -> dict[str, Tensor]:
    """Return the parameters and buffers of a module and those below it, by their full names."""
    state: dict[str, Tensor] = {}
    modules = [("", network)]
    # the list grows: a module may be in several places, and in itself
    for prefix, record in modules:
        for kind in ("_parameters", "_buffers"):
            for name, value in entries(record.get(kind)).items():
                if isinstance(value, Held):
                    state[f"{prefix}{name}"] = value.tensor
        below = entries(record.get("_modules"))
        if len(modules) + len(below) > MOST_MODULES or prefix.count(".") > 8:
            raise ValueError("modules that are nested too deeply")
        modules += [(f"{prefix}{name}.", each) for name, each in below.items() if isinstance(each, Record)]
    return state


def _arguments(network: Record) -> dict[str, Any]:
    """Return what a network was made with, lists as tuples."""
    if network.get("_init_args"):
        raise ValueError("arguments of the network by position, which are not known")
    given = entries(network.get("_init_kwargs"))
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if value is not None and name not in IGNORED
    }
