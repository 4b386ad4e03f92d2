"""Options of every command with their defaults: what the scripts of users rely on. New ones may be added."""

from typing import Any

REQUIRED = object()
# what a run is computed with
COMPUTE: dict[str, Any] = {"seed": 0, "dtype": "float32", "device": "cpu"}
# what a model is asked for beside its labels
TEXT: dict[str, Any] = {"prompt": (), "prompts": "", "negative": None, "null_label": None}
OPTIONS: dict[str, dict[str, Any]] = {
    "patch": COMPUTE | {
        "size": 80, "dimensions": 2, "receptive_field": "box:5", "dictionary": "paper", "schedule": "vp:1",
        "t_max": 50.0, "t_min": 0.001, "steps": 2000, "trajectories": 4, "shells": 6, "measure_every": 10,
        "snapshots": (), "portion": "cut", "block": 4, "out": "runs/patch",
    },
    "dictionary": COMPUTE | {
        "patterns": 8, "receptive_field": "box:5", "dimensions": 2, "uniform": (0.0,), "disorder_of": "uniform",
        "disorder": 32, "replicas": 8, "sizes": (16, 32, 64), "schedule": "vp:1", "t_max": 12.0, "t_min": 0.01,
        "steps": 400, "level": 0.2, "waits": (4.0, 40.0, 200.0), "block": 4, "out": "runs/dictionary",
    },
    "theory": {
        "receptive_field": "box:5", "dimensions": 2, "schedule": "vp:1", "dictionary": "two-state", "seed": 0,
    },
    "probe": COMPUTE | {
        "model": REQUIRED, "states": "reverse", "method": "multiplexed", "trajectories": 4, "labels": (),
        **TEXT, "schedule": "", "shape": (), "data": "", "sampler": "auto", "t_max": None, "t_min": None,
        "steps": None, "shells": 6, "measure_every": None, "snapshots": (), "portion": "cut", "classifier": "none",
        "precision": "full", "block": 8, "out": "runs/probe",
    },
    "window": COMPUTE | {
        "model": REQUIRED, "states": "reverse", "method": "multiplexed", "trajectories": 16, "labels": (),
        "quick": False, "share": 0.8,
        **TEXT, "schedule": "", "shape": (), "data": "", "sampler": "heun", "t_max": None, "t_min": None,
        "steps": None, "shells": 6, "measure_every": None, "snapshots": (), "portion": "cut",
        "classifier": "auto", "precision": "full", "block": 8, "clones": 16, "clone_steps": 300,
        "out": "runs/window", "format": "table", "weight": 1.0, "check": "", "sampler_steps": None,
        "mu": None,
    },
    "instability": COMPUTE | {
        "model": REQUIRED, "states": "forward", "trajectories": 64, "labels": (), **TEXT, "schedule": "",
        "shape": (), "data": "", "levels": 20, "highest": None, "lowest": None, "growth": True, "block": 16,
        "out": "runs/instability",
    },
    "sector": COMPUTE | {
        "model": REQUIRED, "sigma": REQUIRED, "states": "forward", "trajectories": 16, "modes": 4, "labels": (),
        **TEXT, "schedule": "", "shape": (), "data": "", "block": 8, "out": "runs/sector",
    },
    "attention": COMPUTE | {
        "model": REQUIRED, "sigma": (1.0, 3.0, 10.0), "trajectories": 4, "labels": (), **TEXT, "schedule": "",
        "shape": (), "radius": None, "data": "", "block": 1, "out": "runs/attention",
    },
    "information": COMPUTE | {
        "model": REQUIRED, "states": "auto", "trajectories": 128, "labels": (), **TEXT, "schedule": "",
        "shape": (), "data": "", "levels": 48, "highest": None, "lowest": None, "share": 0.8, "block": 16,
        "out": "runs/information",
    },
    "clones": COMPUTE | {
        "model": REQUIRED, "classifier": "auto", "trajectories": 32, "copies": 1, "times": (),
        "labels": (), **TEXT, "schedule": "", "shape": (), "t_max": None, "t_min": None, "steps": 300,
        "block": 16, "out": "runs/clones",
    },
    "pulse": COMPUTE | {
        "model": REQUIRED, "guide": "dropped", "classifier": "auto", "labels": (), "classes": 10, **TEXT,
        "trials": 40, "weight": 10.0, "sigma_c": None, "window": "", "data": "", "steps": 32, "precision": "full",
        "block": 20, "half_width": None, "interval": (0.19, 1.61), "out": "runs/pulse",
    },
    "susceptibility": COMPUTE | {
        "model": REQUIRED, "guide": "dropped", "classifier": "auto", "labels": (), "classes": 10, **TEXT,
        "trials": 3, "weight": 2.0, "sigma_c": None, "window": "", "data": "", "steps": 16, "precision": "full",
        "block": 20, "method": "adjoint", "sampler": "heun", "alignment": "probability", "nodes": 5, "tolerance": 0.01,
        "information": "", "centres": 16, "highest": 40.0,
        "lowest": 0.04, "width": 1.0, "out": "runs/chi",
    },
    "schedule": COMPUTE | {
        "model": REQUIRED, "guide": "dropped", "classifier": "auto", "labels": (), "classes": 10, **TEXT,
        "trials": 16, "weight": 2.0, "data": "", "steps": 32, "precision": "full", "block": 20, "guided_steps": 8,
        "dose": None, "alignment": "probability", "search_trials": 4, "grid": 0, "interval": (0.19, 1.61),
        "out": "runs/schedule", "format": "table", "sampler_steps": None, "mu": None,
    },
    "anneal": COMPUTE | {
        "model": REQUIRED, "correctors": (0, 1, 4, 16), "window": "", "steps": 11, "length": 0.2, "trajectories": 40,
        "labels": (), "classifier": "auto", "data": "", "precision": "full", "block": 20, "out": "runs/anneal",
    },
    "equilibrium": COMPUTE | {
        "model": "", "sigma_range": "", "receptive_field": "box:5", "dimensions": 2, "dictionary": "two-state",
        "schedule": "vp:1", "sizes": (16, 24, 32, 48, 64), "error": 0.01, "minutes": 60.0, "step": 0.5, "levels": 12,
        "dynamics": "langevin", "duration": 60.0, "trajectories": 8, "shells": 3, "data": "", "classifier": "auto",
        "precision": "full", "block": None, "out": "runs/equilibrium",
    },
    "validate": COMPUTE | {
        "nulls": 300, "transitions": 200, "trajectories": 16, "quick": False, "block": 4, "out": "runs/validate",
    },
    "quench": COMPUTE | {
        "rates": (1.0, 2.0, 4.0, 8.0, 16.0, 32.0), "size": 256, "trajectories": 16, "critical": None,
        "receptive_field": "box:5", "dimensions": 2, "dictionary": "two-state", "step": 0.2, "block": 4,
        "out": "runs/quench",
    },
    "models": {
    },
    "train": {
        "network": REQUIRED, "recipe": "edm", "epochs": None, "batch": None, "learning_rate": None, "clip": 1.0,
        "ema": 0.999,
        "label_dropout": 0.1, "t_max": 50.0, "t_min": 0.001, "start": "", "seed": 0, "device": "cpu",
        "precision": "auto", "data": "", "download": False, "out": "runs/train",
    },
    "quality": {
        "model": REQUIRED, "images": 100, "samples": 1000, "classifier": "",
        "precision": "full", "record": False, "figure": "", "seed": 0, "device": "cpu", "data": "",
    },
    "convert-edm2": {
        "source": REQUIRED, "target": REQUIRED,
    },
    "figures": {
        "directory": REQUIRED,
    },
}  # fmt: skip
