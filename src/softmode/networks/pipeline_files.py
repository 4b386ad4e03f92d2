"""A whole pipeline of diffusers from its directory: only classes of diffusers and transformers, only safetensors."""

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from softmode.files import DIRECTORY, FILE, kind_of, read_json
from softmode.message import first_line, quote, refusal
from softmode.networks.diffusers_files import CONFIG, INDEX, NETWORKS, find_parts, import_diffusers, load_part
from softmode.networks.fields import check_config
from softmode.networks.folder import folder_digest

# parts that pipelines go without, and that nothing is asked of here
LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")


class Whole(NamedTuple):
    """A pipeline that is loaded.

    Attributes:
        pipe: The pipeline.
        inputs: Digest of the directory of each of its parts.
    """

    pipe: Any
    inputs: dict[str, str]


def pipeline_class(source: str) -> Any:
    """Return the class of a pipeline by its directory or its id on the hub; None of a network by itself.

    Raises:
        ValueError: If diffusers has no such pipeline.
    """
    home = Path(source)
    if kind_of(home / CONFIG) == FILE:
        return None
    index = _index(source)
    diffusers, name = import_diffusers(), index.get("_class_name")
    found: Any = getattr(diffusers, name, None) if isinstance(name, str) else None
    ours = inspect.isclass(found) and issubclass(found, diffusers.DiffusionPipeline)
    if isinstance(name, str) and not ours:
        raise refusal(
            f"model: {quote(source)} is a {quote(name)[1:-1]}, which diffusers {diffusers.__version__} does not have; "
            "what its loop does is not known: name the directory of its network, such as unet, alone"
        )
    return found if ours else None


def load_pipeline(source: str, device: torch.device | str, dtype: torch.dtype) -> Whole:
    """Return a pipeline of a directory, or of an id on the hub, which is fetched then.

    Nothing that comes with the weights is run: every part is of a class that diffusers or transformers ship, and only
    safetensors are read. Its network and its scheduler are checked as those of `load_part`.

    Args:
        source: The directory, or the id.
        device: Device of the weights.
        dtype: Floating type of the weights.

    Raises:
        ValueError: If a part is of another class, or cannot be loaded.
    """
    diffusers, parts = import_diffusers(), find_parts(source)
    kind, index = pipeline_class(source), _index(source)
    for name in NETWORKS:
        if _entry(index, f"{name}_2") is not None:
            raise refusal(
                f"model: {quote(source)} has two networks, {name} and {name}_2, each for its own noise levels "
                "(experts), which is not known here; give a pipeline of one"
            )
    entries = {name: entry for name in index if (entry := _entry(index, name)) is not None}
    for name, (library, each) in entries.items():
        if name not in LEFT_OUT and not _is_known(library, each):
            raise refusal(
                f"model: the {name} of {quote(source)} is a {quote(each)[1:-1]} of {quote(library)[1:-1]}; only "
                "classes of diffusers and transformers are built"
            )
    bars: Any = importlib.import_module("transformers").utils.logging
    bars.disable_progress_bar()
    try:
        if kind_of(source) != DIRECTORY:
            source = diffusers.DiffusionPipeline.download(source, use_safetensors=True)
        home = Path(source)
        for name in entries:
            if name not in LEFT_OUT and kind_of(home / name / CONFIG) == FILE:
                check_config(read_json("model", home / name / CONFIG))
        network = next(name for name in NETWORKS if name in entries)
        given = {network: load_part(source, parts, "network", torch_dtype=dtype, use_safetensors=True)}
        given["scheduler"] = load_part(source, parts, "scheduler")
        taken = inspect.signature(kind.__init__).parameters
        given |= {name: None for name in LEFT_OUT if name in taken}
        pipe = kind.from_pretrained(str(home), **given, use_safetensors=True, local_files_only=True)
    # whatever two libraries raise of configs and files that they cannot take
    except Exception as error:
        reason = first_line(error)
        hint = "; only safetensors are read, not pickles" if "safetensors" in reason else ""
        raise refusal(f"model: cannot load the pipeline {quote(source)} ({reason}){hint}") from None
    pipe.to(device, dtype)
    getattr(pipe, network).eval().requires_grad_(False)
    inputs = {name: folder_digest("model", home / name) for name in entries if kind_of(home / name) == DIRECTORY}
    return Whole(pipe, inputs)


def _index(source: str) -> Mapping[str, Any]:
    home = Path(source)
    if kind_of(home) == DIRECTORY:
        return read_json("model", home / INDEX) if kind_of(home / INDEX) == FILE else {}
    return import_diffusers().DiffusionPipeline.load_config(source)


def _entry(index: Mapping[str, Any], name: str) -> tuple[str, str] | None:
    """Return the library and the class of a part; None for other entries, and for parts that are left out."""
    entry = index.get(name)
    if isinstance(entry, list) and len(entry) == 2 and all(isinstance(each, str) for each in entry):
        return entry[0], entry[1]
    return None


def _is_known(library: str, name: str) -> bool:
    """Return whether a class is one that diffusers or transformers ship, and load from files."""
    # else a module of one of diffusers' own pipelines
    module = library if library in ("diffusers", "transformers") else f"diffusers.pipelines.{library}"
    try:
        found = getattr(importlib.import_module(module), name, None) if library.isidentifier() else None
    except ImportError:
        return False
    return inspect.isclass(found) and hasattr(found, "from_pretrained")
