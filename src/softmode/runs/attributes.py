"""What a run's store says of itself: what its arrays are a function of, and checksums of all that never changes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from softmode.bounds import shown, shown_path
from softmode.message import refusal
from softmode.runs.files import damaged, is_sealed, read_json, sealed

STORE = "run.zarr"
METADATA = "zarr.json"
# counts the layouts of stores; the first one had no checksums
FORMAT = 2
# differences that a message names
NAMED = 3


def attributes(
    identity: Mapping[str, Any], constants: Mapping[str, int], metadata: Mapping[str, int]
) -> dict[str, Any]:
    """Return the attributes of a store.

    Args:
        identity: What the arrays are a function of.
        constants: Checksums of the arrays that are known from the start.
        metadata: Checksums of the metadata of every array.
    """
    content = {"softmode": identity, "format": FORMAT, "constants": constants, "metadata": metadata}
    return sealed(json.loads(json.dumps(content)))


def read_attributes(directory: Path) -> dict[str, Any]:
    """Return the attributes of the store in a directory.

    Raises:
        ValueError: If there is none, or one that is damaged, foreign or of another version.
    """
    path, remedy = directory / STORE / METADATA, repeat(directory)
    found = read_json(path, ("attributes",), remedy)["attributes"]
    if not isinstance(found, dict) or not isinstance(found.get("softmode"), dict):
        raise refusal(f"out: {shown_path(directory)} holds a {STORE} that is not softmode's; choose another directory")
    if "format" not in found:
        versions = found["softmode"].get("versions")
        version = versions.get("softmode", "?") if isinstance(versions, dict) else "?"
        raise refusal(
            f"{STORE}: {shown_path(directory)} was written by an earlier softmode ({shown(version)}), which kept no "
            "checksums; read it with that one, or make the run again in another directory"
        )
    if not is_sealed(found):
        raise damaged(path, "its attributes are not what was written", remedy)
    if found["format"] != FORMAT:
        raise refusal(f"{STORE}: {shown_path(directory)} was written by a later softmode; read it with that one")
    return found


def is_finished(directory: Path) -> bool:
    """Tell whether the store in a directory was finished: other readers find its metadata in one place since."""
    return read_json(directory / STORE / METADATA, (), repeat(directory)).get("consolidated_metadata") is not None


def repeat(directory: Path) -> str:
    """Return what to do about a damaged store."""
    return f"remove {shown_path(directory)} and run the same command again"


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Name what differs between two identities, those of the second's keys; empty if nothing does."""
    found = []
    for part, value in json.loads(json.dumps(wanted)).items():
        old = stored.get(part)
        if isinstance(value, dict) and isinstance(old, dict):
            keys = [key for key in {**value, **old} if old.get(key) != value.get(key)]
            found += [_difference(part, key, old.get(key), value.get(key)) for key in keys]
        elif old != value:
            found.append(f"{part} {shown(old)} instead of {shown(value)}")
    return ", ".join(found[:NAMED]) + (f" and {len(found) - NAMED} more" if len(found) > NAMED else "")


def _difference(part: str, key: str, old: Any, new: Any) -> str:
    if part == "inputs":
        return f"another {key} than this one, by its content"
    prefix = "" if part in ("config", "versions") else f"{part} "
    return f"{prefix}{key} {shown(old)} instead of {shown(new)}"
