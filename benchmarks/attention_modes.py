"""Are the long-range modes of a network with attention its own? Those of one without, at the same states.

python benchmarks/attention_modes.py --out runs      # runs/attention and runs/norms, made if they are not there
python benchmarks/attention_modes.py --small
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import softmode as sm
from softmode.estimate import Array

NETWORKS = {"attention": "fashion-mnist-attention", "norms": "fashion-mnist"}
SETTINGS: dict[str, Any] = {"sigma": (1.0, 3.0, 10.0)}


def small(folder: Path) -> dict[str, Any]:
    """Return the settings of a few sites, and write their data."""
    images = np.random.default_rng(0).standard_normal((12, 1, 8, 8)).astype("float32")
    np.savez(folder / "data.npz", images=images)
    return {"sigma": (1.0, 0.3), "shape": (1, 8, 8), "data": str(folder / "data.npz"), "trajectories": 2}


def strongest(run: sm.Run) -> tuple[Array, Array]:
    """Return strength and vector of the strongest mode of every state at every level, NaN for none."""
    modes = run.dataset["mode"].to_numpy()[:, :, 0]
    return run.dataset["gamma"].to_numpy()[:, :, 0, 0], modes.reshape(*modes.shape[:2], -1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both networks and print what their strongest modes have in common."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        home = options.out or Path(scratch)
        settings = small(Path(scratch)) if options.small else SETTINGS
        # of few sites, a network that takes any sides, twice
        names = {name: "fashion-mnist-binary-f4" if options.small else model for name, model in NETWORKS.items()}
        runs = {name: sm.attention(model, out=home / name, **settings) for name, model in names.items()}
        (gamma, u), (other, v) = (strongest(runs[name]) for name in NETWORKS)
        overlaps = np.abs((u * v).sum(-1))
        for place, level in enumerate(runs["attention"].dataset["level"].to_numpy()):
            both = np.isfinite(overlaps[:, place])
            alike = f"{overlaps[both, place].min():.3f} to {overlaps[both, place].max():.3f}" if both.any() else "none"
            counts = " and ".join(str(np.isfinite(each[:, place]).sum()) for each in (gamma, other))
            pairs = zip(gamma[both, place], other[both, place], strict=True)
            told = ", ".join(f"{one:.2f} and {two:.2f}" for one, two in pairs)
            print(f"sigma {level:<5g} modes in {counts} of {len(both)} states; |u . v| {alike}; gamma {told}")


if __name__ == "__main__":
    main()
