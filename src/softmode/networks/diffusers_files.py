"""A pipeline of diffusers on disk or on the hub: which classes its parts are of, checked before one is built."""

import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from softmode.files import DIRECTORY, FILE, kind_of, read_json
from softmode.message import first_line, quote, refusal
from softmode.networks.fields import check_config
from softmode.networks.folder import folder_digest, misfit

EXTRA = "softmode[diffusers]"
# folders of a pipeline that may hold its denoiser
NETWORKS = ("unet", "transformer", "prior")
# files by which a directory of LoRA is told
ADAPTERS = ("adapter_config.json", "pytorch_lora_weights.safetensors")
INDEX, CONFIG, SCHEDULER = "model_index.json", "config.json", "scheduler_config.json"

# the class and the folder of each part of a pipeline
Parts = Mapping[str, tuple[str, str]]


def import_diffusers() -> Any:
    """Return diffusers, kept quiet.

    Raises:
        ValueError: If it is not installed.
    """
    try:
        import diffusers
    except ImportError:
        raise refusal(f"model: a diffusers model needs diffusers: pip install '{EXTRA}'") from None
    noise: Any = diffusers.utils.logging
    noise.set_verbosity_error()
    noise.disable_progress_bar()
    # the hub's client logs every retry; what comes of them is said in one line
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    return diffusers


def load_scheduler(source: str) -> Any:
    """Return the scheduler of a model of `load_diffusers`.

    Raises:
        ValueError: If diffusers is not installed or there is none.
    """
    import_diffusers()
    source = source.removeprefix("diffusers:")
    return load_part(source, find_parts(source), "scheduler")


def find_parts(source: str) -> Parts:
    """Return the class and the folder of a pipeline's network, scheduler, text encoder and tokenizer.

    Args:
        source: Directory of a pipeline, or of a network with its scheduler in it or beside it, or id on the hub.

    Raises:
        ValueError: If there is no such pipeline, or it has no denoiser.
    """
    home = Path(source)
    if kind_of(home / CONFIG) == FILE:
        return _bare(home)
    if kind_of(home) == DIRECTORY and kind_of(home / INDEX) != FILE:
        if any(kind_of(home / name) == FILE for name in ADAPTERS):
            raise refusal(
                f"model: {quote(source)} holds an adapter of LoRA, which changes another model; merge it into "
                "its pipeline (pipe.load_lora_weights, pipe.fuse_lora) and save that"
            )
        raise refusal(
            f"model: {quote(source)} holds neither model_index.json nor config.json; give the directory of a diffusers "
            "pipeline, or of a network with its scheduler beside it"
        )
    index = read_json("model", home / INDEX) if kind_of(home) == DIRECTORY else _index_of_hub(source)
    found = {}
    for name in (*NETWORKS, "scheduler", "text_encoder", "tokenizer"):
        entry = index.get(name)
        # of a part that a pipeline goes without, the index says [null, null]
        if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str):
            found[name] = (entry[1], name)
    network = next((name for name in NETWORKS if name in found), None)
    if network is None or "scheduler" not in found:
        raise refusal(f"model: {quote(source)} has no {', '.join(NETWORKS)} and scheduler: it is no denoiser")
    return {"network": found[network], **found}


def _index_of_hub(source: str) -> Mapping[str, Any]:
    try:
        with warnings.catch_warnings():
            # about arguments of its own to the hub's client
            warnings.simplefilter("ignore")
            index: Mapping[str, Any] = import_diffusers().DiffusionPipeline.load_config(source)
            return index
    except (OSError, ValueError) as error:
        raise refusal(
            f"model: cannot find {quote(source)} on this machine, nor reach it on the hub ({first_line(error)}); "
            "download it first and give its directory"
        ) from None


def _bare(home: Path) -> Parts:
    """Return the parts of a network's own directory; its scheduler lies in it or beside it."""
    folder = next((f for f in ("scheduler", "../scheduler") if kind_of(home / f / SCHEDULER) == FILE), None)
    if folder is None:
        raise refusal(f"model: {quote(str(home))} has no folder scheduler, in it or beside it, with its noise levels")
    kinds = (read_json("model", path).get("_class_name") for path in (home / CONFIG, home / folder / SCHEDULER))
    network, scheduler = (kind if isinstance(kind, str) else "none" for kind in kinds)
    return {"network": (network, ""), "scheduler": (scheduler, folder)}


def digests(source: str, parts: Parts, used: tuple[str, ...]) -> dict[str, str]:
    """Return the digest of each part's directory; none of parts of the hub."""
    homes = {name: Path(source, parts[name][1]) for name in used if name in parts}
    return {name: folder_digest("model", home) for name, home in homes.items() if kind_of(home) == DIRECTORY}


def load_part(source: str, parts: Parts, part: str, **settings: Any) -> Any:
    """Return the network or the scheduler of a pipeline.

    It is of one of diffusers' own classes, as code that comes with weights is never run. Of a directory, its config is
    checked and its weights are compared with the network on the meta device before memory is taken.

    Args:
        source: Directory or id on the hub.
        parts: Its parts.
        part: Which: network or scheduler.
        settings: Further arguments of from_pretrained.

    Raises:
        ValueError: If the class is none of diffusers', or the part cannot be loaded.
    """
    diffusers, (name, folder) = import_diffusers(), parts[part]
    known: Any = getattr(diffusers, name, None)
    base = diffusers.SchedulerMixin if part == "scheduler" else diffusers.ModelMixin
    ours = inspect.isclass(known) and issubclass(known, base)
    if not ours:
        raise refusal(
            f"model: the {part} of {quote(source)} is a {quote(name)[1:-1]}, which diffusers {diffusers.__version__} "
            "lacks"
        )
    home = Path(source, folder)
    with _told(source, part):
        if kind_of(home) != DIRECTORY:
            return known.from_pretrained(source, subfolder=folder, **settings)
        config = read_json("model", home / (SCHEDULER if part == "scheduler" else CONFIG))
        check_config(config)
        if part == "network":
            with torch.device("meta"):
                skeleton = known.from_config(config)
            if reason := misfit(skeleton, "model", home):
                raise ValueError(reason)
        return known.from_pretrained(str(home), **settings)


@contextmanager
def _told(source: str, part: str) -> Iterator[None]:
    """Turn whatever a library raises of a config that its class cannot take into one line."""
    try:
        yield
    except Exception as error:
        reason = first_line(error)
        hint = "; only safetensors are read, not pickles" if "safetensors" in reason else ""
        raise refusal(f"model: cannot load the {part} of {quote(source)} ({reason}){hint}") from None
