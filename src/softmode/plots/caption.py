"""What a figure says about the run that it shows, and which kind of run that is."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from softmode.runs.run import Run

# characters across a figure
LINE = 118


def is_probe(run: Run) -> bool:
    """Return whether a run probed a model rather than sampled a patch model."""
    return bool(run.identity["experiment"] == "probe")


def caption(run: Run) -> str:
    """Return one line, or two where it is long, that says which run a figure shows."""
    config, count = run.config, run.dataset.sizes["trajectory"]
    trajectories = "1 trajectory" if count == 1 else f"{count} trajectories"
    if is_probe(run):
        model = run.identity["model"]
        states = "sampled" if config["states"] == "reverse" else "noised data"
        text = (
            f"model {'/'.join(Path(model['name']).parts[-2:])}{_class(config)}, "
            f"process {config['schedule'] or model['process'] + ' (its own)'}, states: {states}, "
            f"{trajectories}, gains: {config['method']}, seed {config['seed']}"
        )
    else:
        sites = " × ".join([str(config["size"])] * config["dimensions"])
        text = (
            f"{sites} sites, receptive field {config['receptive_field']}, dictionary "
            f"{Path(config['dictionary']).name}, schedule {config['schedule']}, {trajectories}, seed {config['seed']}"
        )
    return textwrap.fill(text, LINE)


def _class(config: Mapping[str, Any]) -> str:
    return f" (class {', '.join(map(str, config['labels']))})" if config["labels"] else ""
