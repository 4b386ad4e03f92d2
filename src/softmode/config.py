"""Frozen configurations of the experiments: what a user chooses, with the source of every default.

This module imports nothing heavy, so that the command line can print its help at once.
"""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional


@dataclass(frozen=True)
class PatchConfig:
    """Sample a patch model and measure its critical dynamics. The defaults are the paper's parameters (E.13)."""

    size: int = 80
    """Sites along each axis (paper E.2)."""
    dimensions: int = 2
    """Number of axes, 1 to 3."""
    receptive_field: str = "box:5"
    """box:5 (odd side), ball:2.5 (radius), cross:2 (arm) or offsets:0,0;0,1;1,0."""
    dictionary: str = "paper"
    """paper (ten patterns, E.1), two-state, random:8 (with their flips), or a file.npz with patterns and prior."""
    schedule: str = "vp:1"
    """vp:1 (constant beta, E.3), vp-linear:0.1:20, vp-cosine:0.008 or ve."""
    t_max: float = 50.0
    """First time T of the reverse grid, in the process's own time (E.5)."""
    t_min: float = 1e-3
    """Last time of the reverse grid (E.5)."""
    steps: int = 2000
    """Euler-Maruyama steps, evenly spaced in log t (Eq. 59)."""
    trajectories: int = 4
    """Independent trajectories (E.13)."""
    shells: int = 6
    """Highest Fourier shell (E.9)."""
    measure_every: int = 10
    """Steps between two measurements; the paper does not say."""
    snapshots: tuple[float, ...] = ()
    """Times at which to keep the state; five, evenly spaced in log t, when left out (Fig. 2)."""
    portion: Literal["cut", "clip"] = "cut"
    """Positive portion of C(r) in Eq. 63: cut at its first zero, or clip negative values (the literal reading)."""
    seed: int = 0
    """Seed of the dictionary and of every trajectory."""
    dtype: Literal["float32", "float64"] = "float32"
    """Floating type of the states."""
    device: str = "cpu"
    """Device of the states: cpu, cuda, cuda:1."""
    block: int = 4
    """Trajectories simulated at once and stored together; an interrupted run resumes at its last finished block."""


@dataclass(frozen=True)
class ProbeConfig:
    """Probe a model: sample it, or noise data, and measure its critical dynamics beside the Gaussian null model."""

    model: Positional[str]
    """A name of softmode models, a path made by softmode train, edm2:file (an official pickle or what softmode
    convert-edm2 made of it), diffusers:path-or-hub-id, or python:module:function (returns a Denoiser)."""
    states: Literal["reverse", "forward"] = "reverse"
    """Where to measure: along sampled trajectories (F.5), or on noised held-out data, which needs no sampling."""
    method: Literal["multiplexed", "difference", "jvp"] = "multiplexed"
    """How mode gains are found: all modes at once with signs (4 evaluations per state), one by one (the paper's), or by
    forward-mode automatic differentiation."""
    trajectories: int = 4
    """Independent trajectories, or data of --states forward."""
    labels: str = ""
    """Classes, for example 207,388, dealt out to the trajectories in turn; all classes together when left out."""
    prompt: str | None = None
    """Prompt of every trajectory, for a model of text."""
    schedule: str = ""
    """Process in which to sample: vp:1, vp-linear:0.1:20, vp-cosine:0.008 or ve; the model's own when left out."""
    shape: tuple[int, ...] = ()
    """Channels and sides of a state, for example 1 28 28; the model's own when left out."""
    data: str = ""
    """Data of --states forward and of the null model: a file.npz with images [image, channel, sides] in the model's
    units; the model's own held-out images and power spectrum when left out."""
    sampler: Literal["auto", "euler-maruyama", "heun"] = "auto"
    """Euler-Maruyama on the reverse SDE, evenly spaced in log t (F.5), or Heun on the probability flow, on EDM's noise
    levels with rho 7 (G.2); auto is the former for a VP process and the latter for a VE process."""
    t_max: float | None = None
    """First time T of the reverse grid, in the process's own time. When left out: 50 (F.5); for VE or Heun, noise level
    80 (G.2); the highest that the model knows, where that is lower."""
    t_min: float | None = None
    """Last time of the reverse grid. When left out: 0.001 (F.5); for VE or Heun, noise level 0.002 (G.2)."""
    steps: int | None = None
    """Steps of the sampler; 2000 of Euler-Maruyama (F.5), 63 of Heun, when left out: the paper gives no number in G.2,
    EDM2's 31 leave the peak of xi_eq to a few levels."""
    shells: int = 6
    """Highest Fourier shell (E.9)."""
    measure_every: int | None = None
    """Steps between two measurements; 20 of Euler-Maruyama and 1 of Heun when left out; the paper does not say."""
    snapshots: tuple[float, ...] = ()
    """Times at which to keep x and D(x) and to measure the response kernel; eight, evenly spaced in the log of the
    noise level from 10 to 0.1, when left out."""
    portion: Literal["cut", "clip"] = "cut"
    """Positive portion of C(r) in Eq. 63: cut at its first zero, or clip negative values (the literal reading)."""
    classifier: str = "none"
    """Tells the class of D(x), whose entropy is followed: a name or a path of softmode models, dinov2 or dinov2:PATH
    for RGB images; none leaves it out."""
    seed: int = 0
    """Seed of every trajectory."""
    dtype: Literal["float32", "float64"] = "float32"
    """Floating type of the states and the network."""
    precision: Literal["full", "bfloat16", "float16"] = "full"
    """Floating type inside the network while sampling; what is measured is always computed in the states' own."""
    device: str = "cpu"
    """Device of the states and the network: cpu, cuda, cuda:1."""
    block: int = 8
    """Trajectories simulated at once and stored together; an interrupted run resumes at its last finished block."""


@dataclass(frozen=True)
class WindowConfig(ProbeConfig):
    """Find the noise window in which to guide a model, and set the other notions of it beside."""

    trajectories: int = 16
    """Independent trajectories, or data of --states forward."""
    sampler: Literal["auto", "euler-maruyama", "heun"] = "heun"
    """Euler-Maruyama on the reverse SDE, evenly spaced in log t (F.5), or Heun on the probability flow, on EDM's noise
    levels with rho 7 (G.2), which needs far fewer steps; auto is the former for a VP process and the latter for VE."""
    classifier: str = "fashion-mnist-classifier"
    """Tells the class of D(x) and of clones: a name or a path of softmode models, dinov2 or dinov2:PATH for RGB images;
    none leaves classes out. A classifier of Fashion-MNIST is left out by itself where the states are others."""
    clones: int = 16
    """Trajectories that are copied to see from when on the copies agree; 0 leaves that out."""
    clone_steps: int = 300
    """Euler-Maruyama steps of a clone."""


@dataclass(frozen=True)
class ClonesConfig:
    """Copy trajectories at a time t*, run the copies on with independent noise, and see whether they still agree."""

    model: Positional[str]
    """A name of softmode models, a path made by softmode train, edm2:file (an official pickle or what softmode
    convert-edm2 made of it), diffusers:path-or-hub-id, or python:module:function (returns a Denoiser)."""
    classifier: str = "fashion-mnist-classifier"
    """Tells the class of a final state: a name or a path, dinov2 or dinov2:PATH for RGB images; none leaves the
    agreement of classes out."""
    trajectories: int = 32
    """Independent trajectories that are copied."""
    copies: int = 1
    """Copies of each trajectory at each time, compared with it and with each other."""
    times: tuple[float, ...] = ()
    """Times t* at which to copy; eight, evenly spaced in the log of the noise level from 20 to 0.2, when left out."""
    labels: str = ""
    """Classes, for example 3,7, dealt out to the trajectories in turn; all classes together when left out."""
    prompt: str | None = None
    """Prompt of every trajectory, for a model of text."""
    schedule: str = ""
    """Process in which to sample; the model's own when left out."""
    shape: tuple[int, ...] = ()
    """Channels and sides of a state; the model's own when left out."""
    t_max: float | None = None
    """First time of the reverse grid. When left out: 10, where sigma/alpha is 148 for vp:1, so that copies made earlier
    forget all; for VE, noise level 80 (G.2); the highest that the model knows, where that is lower."""
    t_min: float | None = None
    """Last time of the reverse grid. When left out: 0.001 (F.5); for VE, noise level 0.002 (G.2)."""
    steps: int = 300
    """Euler-Maruyama steps, evenly spaced in log t: fewer than for a probe, as only final states are compared."""
    seed: int = 0
    """Seed of every trajectory and copy."""
    dtype: Literal["float32", "float64"] = "float32"
    """Floating type of the states and the network."""
    device: str = "cpu"
    """Device of the states and the network: cpu, cuda, cuda:1."""
    block: int = 16
    """Trajectories simulated at once and stored together; an interrupted run resumes at its last finished block."""


@dataclass(frozen=True)
class GuidedConfig:
    """What every experiment on guidance needs: a model, its guide, a classifier, and how to sample."""

    model: Positional[str]
    """A name of softmode models, a path made by softmode train, edm2:file, diffusers:path-or-hub-id, or
    python:module:function (returns a Model); it must know classes."""
    guide: str = "dropped"
    """What guidance pushes away from: dropped (the model itself without its label), or a MODEL: unconditional, or a
    weaker one of the same classes (autoguidance)."""
    classifier: str = "fashion-mnist-classifier"
    """Tells how well a sample is aligned with its class: a name or a path of softmode models, or dinov2 (dinov2:small,
    dinov2:PATH; pip install 'softmode[transformers]')."""
    labels: str = ""
    """Classes, for example 207,388; when left out, as many as --classes says, evenly spaced."""
    classes: int = 10
    """Number of classes (H.5)."""
    trials: int = 40
    """Trials per class and condition (H.5); all conditions of a trial start from the same noise."""
    weight: float = 10.0
    """Weight w of the guidance, D + w (D - D_guide). The paper says strong, and no number."""
    sigma_c: float | None = None
    """Critical noise level sigma/alpha; that of --window when left out."""
    window: str = ""
    """Directory of a finished softmode window of the same model; when left out, one is made in OUT/window."""
    data: str = ""
    """Real images for the Fréchet distance: a file.npz with images [image, channel, sides] in the model's units; the
    model's own held-out images when left out."""
    steps: int = 32
    """Noise levels of EDM's sampler, rho 7 (H.1); 32 is EDM2's number."""
    seed: int = 0
    """Seed of every trial."""
    dtype: Literal["float32", "float64"] = "float32"
    """Floating type of the states and the networks."""
    precision: Literal["full", "bfloat16", "float16"] = "full"
    """Floating type inside the networks while sampling; the classifier computes in float32."""
    device: str = "cpu"
    """Device of the states and the networks: cpu, cuda, cuda:1."""
    block: int = 20
    """Trials sampled at once and stored together; an interrupted run resumes at its last finished block of a class and
    condition."""


@dataclass(frozen=True)
class PulseConfig(GuidedConfig):
    """Guide in a short pulse at sigma_c, at random places and in other ways, and compare the samples (H.4 to H.7)."""

    half_width: float | None = None
    """Half the pulse's width in sigma, Delta of H.4; half of sigma_c when left out, as the paper gives no number."""
    interval: tuple[float, float] = (0.19, 1.61)
    """A given interval of guidance, low and high; the default was published for EDM2-XXL on ImageNet-512
    (Kynkäänniemi et al. 2024)."""


@dataclass(frozen=True)
class SusceptibilityConfig(GuidedConfig):
    """Guide in the same pulse at many noise levels, and measure where it changes the samples' alignment most."""

    centres: int = 16
    """Centres of the pulse, evenly spaced in log sigma."""
    highest: float = 40.0
    """Highest centre; no higher than the first noise level."""
    lowest: float = 0.04
    """Lowest centre; the grid of the sampler is coarse below."""
    width: float = 1.0
    """Width of the pulse in log sigma."""
    steps: int = 64
    """Noise levels of EDM's sampler, rho 7 (H.1); twice EDM2's number, so that every pulse holds some."""


@dataclass(frozen=True)
class TheoryConfig:
    """Print every critical time and Ginzburg-Landau parameter of a patch model, without simulation."""

    receptive_field: str = "box:5"
    """box:5 (odd side), ball:2.5 (radius), cross:2 (arm) or offsets:0,0;0,1;1,0."""
    dimensions: int = 2
    """Number of axes, 1 to 3."""
    schedule: str = "vp:1"
    """vp:1 (constant beta), vp-linear:0.1:20, vp-cosine:0.008 or ve."""
    dictionary: str = "two-state"
    """two-state (the minimal model), paper, random:8, or a file.npz with patterns and prior."""
    seed: int = 0
    """Seed of a random dictionary."""
