"""Tiny models of other packages, and what their own samplers make of them at every step."""

from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from .packages import Object, Step, fed, noted, package, silent

SIDE, CLASSES = 8, 3


class Network(nn.Module):
    """A tiny network of a state, a time and perhaps a class, with a name for each as a package wants it."""

    def __init__(self, channels: int = 1, classes: int = 0, out: int = 0) -> None:
        super().__init__()
        stream = torch.Generator().manual_seed(0)
        self.conv = nn.Conv2d(channels, out or channels, 3, padding=1, padding_mode="circular")
        for parameter in self.conv.parameters():
            nn.init.normal_(parameter, std=0.3, generator=stream)
        self.num_classes = classes

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Return something that depends on all of them."""
        shift = torch.sin(t.to(x.dtype) + (0 if y is None else y)).reshape(-1, 1, 1, 1)
        return torch.tanh(self.conv(x) + shift)


class ClassCond(Network):
    """The same with a name for the class that k-diffusion gives it."""

    def forward(self, x: Tensor, sigma: Tensor, aug_cond: Any = None, class_cond: Any = None) -> Tensor:
        """Return something that depends on all of them."""
        return super().forward(x, sigma.log(), class_cond)


# ---- k-diffusion


def alphas_cumprod() -> Tensor:
    """Return the running product of 20 steps."""
    return torch.linspace(0.98, 0.5, 20).cumprod(0)


def k_steps(denoiser: Any, label: int | None, name: str = "class_cond", highest: float = 5.0) -> list[Step]:
    """Return the steps of k-diffusion's own Euler loop."""
    sampling = package("k_diffusion.sampling")
    sigmas = sampling.get_sigmas_karras(4, 0.3, highest)
    x = sigmas[0] * torch.randn(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    # of its own classes the last is for none
    which = CLASSES if label is None and isinstance(inner_most(denoiser), ClassCond) else label
    extra = {} if which is None else {name: torch.full((2,), which)}
    found: list[Step] = []
    with fed(inner_most(denoiser)) as calls, torch.no_grad():
        sampling.sample_euler(
            denoiser, x, sigmas, extra, disable=True,
            callback=lambda told: found.append(
                Step(told["x"].clone(), float(told["sigma_hat"]), told["denoised"].clone(), [calls[-1]])
            ),
        )  # fmt: skip
    return found


def inner_most(denoiser: Any) -> nn.Module:
    return denoiser.inner_model


def k_classes() -> Any:
    return package("k_diffusion").Denoiser(ClassCond(classes=CLASSES + 1), sigma_data=0.5)


def comp_vis() -> Any:
    inner = Network()
    inner.alphas_cumprod = alphas_cumprod()
    inner.apply_model = lambda x, t, cond=None: inner(x, t, cond)
    return package("k_diffusion.external").CompVisDenoiser(inner)


def open_ai() -> Any:
    schedule = SimpleNamespace(alphas_cumprod=alphas_cumprod().numpy())
    return package("k_diffusion.external").OpenAIDenoiser(Network(classes=CLASSES, out=2), schedule)


def discrete(kind: str, quantize: bool) -> Any:
    return getattr(package("k_diffusion.external"), kind)(Network(), alphas_cumprod(), quantize)


# ---- denoising-diffusion-pytorch

DDP = "denoising_diffusion_pytorch"


def ddp_unet(module: str = DDP, kind: str = "Unet", **settings: Any) -> Any:
    torch.manual_seed(0)
    return getattr(package(f"{DDP}.{module}"), kind)(dim=8, dim_mults=(1, 2), channels=1, **settings).eval()


def ddp(module: str, kind: str, unet: Callable[[], Any], **settings: Any) -> Any:
    size = {"seq_length": SIDE} if kind.endswith("1D") else {"image_size": SIDE}
    return getattr(package(f"{DDP}.{module}"), kind)(unet(), **size, **settings)


def ddp_discrete_steps(
    diffusion: Any, label: int | None, method: str = "model_predictions", place: int = 1
) -> list[Step]:
    """Return the steps of a discrete diffusion's own loop; a method's answer has its estimate of x_0 in a place."""
    torch.manual_seed(1)
    with fed(diffusion.model) as calls, noted(diffusion, method, calls) as found, silent(diffusion):
        diffusion.sample(batch_size=2)
    return [Step(*ddp_state(diffusion, told["x"], told["t"]), out[place], given) for told, out, given in found]


def ddp_guided_steps(diffusion: Any, label: int | None) -> list[Step]:
    """Return the steps of a guided loop, of the two calls of its network in each that of the class or that of none."""
    torch.manual_seed(1)
    with fed(diffusion.model) as calls, noted(diffusion, "model_predictions", calls) as found, silent(diffusion):
        diffusion.sample(torch.full((2,), label or 0), cond_scale=2.0)
    steps = []
    for told, _, (of_class, of_none) in found:
        given = of_none if label is None else of_class
        with torch.no_grad():
            own = diffusion.predict_start_from_noise(told["x"], told["t"], diffusion.model(**given))
        steps.append(Step(*ddp_state(diffusion, told["x"], told["t"]), own, [given]))
    return steps


def ddp_state(diffusion: Any, x: Tensor, t: Tensor) -> tuple[Tensor, float]:
    """Return the EDM states and the noise level of states at a timestep."""
    square = -torch.expm1(diffusion.log_one_minus_alphas_cumprod[int(t[0])].double())
    return x / float(square.sqrt()), float(((1 - square) / square).sqrt())


def elucidated_steps(diffusion: Any, _label: int | None) -> list[Step]:
    """Return the steps of the elucidated diffusion's own Heun loop."""
    torch.manual_seed(1)
    name = "preconditioned_network_forward"
    with fed(diffusion.net) as calls, noted(diffusion, name, calls) as found, silent(diffusion):
        diffusion.sample(batch_size=2, num_sample_steps=3, clamp=False)
    return [Step(told["noised_images"], float(told["sigma"]), out, given) for told, out, given in found]


def continuous_steps(diffusion: Any, _label: int | None) -> list[Step]:
    """Return the steps of a continuous diffusion's own loop, its estimate taken out of the mean of the next state."""
    torch.manual_seed(1)
    steps = []
    with fed(diffusion.model) as calls, noted(diffusion, "p_mean_variance", calls) as found, silent(diffusion):
        diffusion.sample(batch_size=2)
    for told, (mean, _variance), given in found:
        now, then = (diffusion.log_snr(told[name]).double() for name in ("time", "time_next"))
        alpha, after = now.sigmoid().sqrt(), then.sigmoid().sqrt()
        c = -torch.expm1(now - then)
        own = (mean.double() / after - told["x"].double() * (1 - c) / alpha) / c
        steps.append(Step(told["x"] / alpha.float(), float((-now / 2).exp()), own.float(), given))
    return steps


# ---- azula


class LabelBackbone(Network):
    """The same with the name of azula's plugins for a class, and a time without axes."""

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """Return something that depends on all of them."""
        return super().forward(x, t, y if label is None else label)


def azula(kind: str, schedule: Callable[[Any], Any], **settings: Any) -> Any:
    noise = package("azula.noise")
    return getattr(package("azula.denoise"), kind)(LabelBackbone(), schedule(noise), **settings).eval()


def gaussian() -> Any:
    diagonal = package("azula.linalg.covariance").DiagonalCovariance
    stream = torch.Generator().manual_seed(0)
    mean, variance = torch.randn(1, SIDE, SIDE, generator=stream), torch.rand(1, SIDE, SIDE, generator=stream) + 0.5
    return package("azula.denoise").GaussianDenoiser(mean, diagonal(variance), package("azula.noise").VPSchedule())


def ablated() -> Any:
    return package("azula.plugins.adm").AblatedDenoiser(LabelBackbone(classes=CLASSES)).eval()


def velocity() -> Any:
    return package("azula.plugins.vdm").VelocityDenoiser(LabelBackbone()).eval()


def azula_steps(denoiser: Any, label: int | None, given: Callable[[int], Any] | None = None) -> list[Step]:
    """Return the steps of azula's own loop."""
    sampler = package("azula.sample").EulerSampler(denoiser, steps=4, silent=True)
    backbone = getattr(denoiser, "backbone", None)
    watched: Any = nn.Identity() if backbone is None else backbone
    x = torch.randn(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    extra = {} if label is None or given is None else {"label": given(label)}
    with fed(watched) as calls, noted(denoiser, "forward", calls) as found, torch.no_grad():
        sampler(x, **extra)
    steps = []
    for told, posterior, made in found:
        alpha, sigma = (float(each) for each in denoiser.schedule(told["t"].double()))
        steps.append(Step(told["x_t"] / alpha, sigma / alpha, posterior.mean, made))
    return steps


# ---- smalldiffusion


def small_unet(modifier: str = "", classes: int = 0) -> Any:
    small = package("smalldiffusion")
    torch.manual_seed(0)
    kind = getattr(small, modifier)(small.Unet) if modifier else small.Unet
    embedding = small.CondEmbedderLabel(32, CLASSES) if classes else None
    return kind(SIDE, 1, 1, ch=32, ch_mult=(1,), embed_ch_mult=1, num_res_blocks=1, cond_embed=embedding).eval()


def ideal() -> Any:
    small = package("smalldiffusion")
    return small.IdealDenoiser(torch.randn(5, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)))


def small_schedule(flow: bool = False) -> Mapping[str, Any]:
    small = package("smalldiffusion")
    return {"schedule": small.ScheduleFlow(50) if flow else small.ScheduleLogLinear(20)}


def small_steps(model: Any, label: int | None, flow: bool = False, null: bool = False) -> list[Step]:
    """Return the steps of smalldiffusion's own loop."""
    small = package("smalldiffusion")
    which = CLASSES if null and label is None else label
    condition = None if which is None else torch.full((2,), which)
    torch.manual_seed(1)
    sigmas = small_schedule(flow)["schedule"].sample_sigmas(4)
    with fed(model) as calls, noted(model, "predict_eps", calls) as found:
        list(small.samples(model, sigmas, batchsize=2, cond=condition, accelerator=SimpleNamespace(device="cpu")))
    steps = []
    for told, predicted, given in found:
        x, sigma = told["x"], told["sigma"].double()
        if flow and sigma == 1:
            # noise alone, of infinite level
            continue
        alpha = 1 - sigma if flow else torch.tensor(1.0)
        steps.append(Step(x / alpha.float(), float(sigma / alpha), x - sigma.float() * predicted, given))
    return steps


K, X = "k-diffusion: ", "denoising-diffusion-pytorch: "
A, S = "azula: ", "smalldiffusion: "
SHAPE = lambda: {"shape": (1, SIDE, SIDE)}  # noqa: E731 # one of many like it in the table
TIMED = partial(ddp_unet, learned_sinusoidal_cond=True)
STEPS: dict[str, Any] = {"timesteps": 8}
OBJECTS: dict[str, Object] = {
    K + "Denoiser": Object(k_classes, inner_most, k_steps, SHAPE, CLASSES),
    K + "VDenoiser": Object(
        lambda: package("k_diffusion.external").VDenoiser(Network()), inner_most, k_steps, SHAPE
    ),
    K + "DiscreteEpsDDPMDenoiser": Object(
        partial(discrete, "DiscreteEpsDDPMDenoiser", True), inner_most, k_steps, SHAPE
    ),
    K + "DiscreteVDDPMDenoiser": Object(
        partial(discrete, "DiscreteVDDPMDenoiser", False), inner_most, k_steps, SHAPE
    ),
    K + "OpenAIDenoiser": Object(open_ai, inner_most, partial(k_steps, name="y"), SHAPE, CLASSES),
    K + "CompVisDenoiser": Object(comp_vis, inner_most, k_steps, SHAPE),
    X + "GaussianDiffusion, noise": Object(
        lambda: ddp(DDP, "GaussianDiffusion", ddp_unet, objective="pred_noise", **STEPS), lambda d: d.model,
        ddp_discrete_steps,
    ),
    X + "GaussianDiffusion, x_0": Object(
        lambda: ddp(DDP, "GaussianDiffusion", ddp_unet, objective="pred_x0", beta_schedule="cosine", **STEPS),
        lambda d: d.model, ddp_discrete_steps,
    ),
    X + "GaussianDiffusion, v": Object(
        lambda: ddp(DDP, "GaussianDiffusion", ddp_unet, beta_schedule="linear", timesteps=100, sampling_timesteps=5),
        lambda d: d.model, ddp_discrete_steps, clipped=True,
    ),
    X + "LearnedGaussianDiffusion": Object(
        lambda: ddp("learned_gaussian_diffusion", "LearnedGaussianDiffusion", partial(ddp_unet, learned_variance=True),
                    objective="pred_noise", **STEPS),
        lambda d: d.model, partial(ddp_discrete_steps, method="p_mean_variance", place=3), clipped=True,
    ),
    X + "GaussianDiffusion1D": Object(
        lambda: ddp(f"{DDP}_1d", "GaussianDiffusion1D", partial(ddp_unet, f"{DDP}_1d", "Unet1D"), **STEPS),
        lambda d: d.model, ddp_discrete_steps,
    ),
    X + "classifier_free_guidance": Object(
        lambda: ddp("classifier_free_guidance", "GaussianDiffusion",
                    partial(ddp_unet, "classifier_free_guidance", num_classes=CLASSES), **STEPS),
        lambda d: d.model, ddp_guided_steps, classes=CLASSES,
    ),
    X + "ElucidatedDiffusion": Object(
        lambda: ddp("elucidated_diffusion", "ElucidatedDiffusion", TIMED, channels=1), lambda d: d.net,
        elucidated_steps,
    ),
    X + "ContinuousTimeGaussianDiffusion": Object(
        lambda: ddp("continuous_time_gaussian_diffusion", "ContinuousTimeGaussianDiffusion", TIMED, channels=1,
                    num_sample_steps=4, clip_sample_denoised=False),
        lambda d: d.model, continuous_steps,
    ),
    X + "VParamContinuousTimeGaussianDiffusion": Object(
        lambda: ddp("v_param_continuous_time_gaussian_diffusion", "VParamContinuousTimeGaussianDiffusion", TIMED,
                    channels=1, num_sample_steps=4, clip_sample_denoised=False),
        lambda d: d.model, continuous_steps,
    ),
    X + "simple_diffusion": Object(
        lambda: ddp("simple_diffusion", "GaussianDiffusion", TIMED, channels=1, num_sample_steps=4, noise_d=4),
        lambda d: d.model, continuous_steps, clipped=True,
    ),
    A + "KarrasDenoiser": Object(
        partial(azula, "KarrasDenoiser", lambda n: n.VPSchedule()), lambda d: d.backbone,
        partial(azula_steps, given=lambda label: torch.tensor([label])),
        lambda: {"shape": (1, SIDE, SIDE), "conditions": [{"label": torch.tensor([i])} for i in range(CLASSES)],
                 "null": {}},
        CLASSES,
    ),
    A + "SimpleDenoiser": Object(
        partial(azula, "SimpleDenoiser", lambda n: n.RectifiedSchedule()), lambda d: d.backbone, azula_steps, SHAPE
    ),
    A + "GaussianDenoiser": Object(gaussian, lambda d: nn.Identity(), azula_steps),
    A + "AblatedDenoiser": Object(
        ablated, lambda d: d.backbone, partial(azula_steps, given=lambda label: torch.full((2,), label)), SHAPE, CLASSES
    ),
    A + "VelocityDenoiser": Object(velocity, lambda d: d.backbone, azula_steps, SHAPE),
    S + "Unet": Object(
        partial(small_unet, classes=CLASSES), lambda d: d, partial(small_steps, null=True), small_schedule, CLASSES
    ),
    S + "PredX0(Unet)": Object(partial(small_unet, "PredX0"), lambda d: d, small_steps, small_schedule),
    S + "PredV(Unet)": Object(partial(small_unet, "PredV"), lambda d: d, small_steps, small_schedule),
    S + "Scaled(Unet)": Object(partial(small_unet, "Scaled"), lambda d: d, small_steps, small_schedule),
    S + "PredFlow(Unet)": Object(
        partial(small_unet, "PredFlow"), lambda d: d, partial(small_steps, flow=True), partial(small_schedule, True)
    ),
    S + "IdealDenoiser": Object(ideal, lambda d: d, small_steps),
}  # fmt: skip
