"""The loop: what is measured where, independence of batching, and the first state that is not finite."""

import math

import pytest
import torch

from helpers.errors import refused
from helpers.models import patch_denoiser
from helpers.observables import Function
from helpers.random import normal
from softmode.observe.correlation import SignCorrelation, StructureFactor
from softmode.observe.gains import ModeGains, exact_gains
from softmode.process import VE, VP, log_grid
from softmode.samplers import EulerMaruyama, Heun, initial_state
from softmode.simulation import LOOK_EVERY, NonFiniteStateError, simulate
from softmode.streams import TrajectoryNoise

EULER = EulerMaruyama()
HEUN = Heun()

samplers = pytest.mark.parametrize("sampler", [EULER, HEUN], ids=["euler-maruyama", "heun"])


def halving(x, sigma):
    """Return half the state: a denoiser for tests of the loop itself."""
    return 0.5 * x


WHOLE = Function("state", lambda state: state.x)


def patch_run(trajectories, sampler=EULER, seed=2, dtype=torch.float64):
    """Run the patch model with observables on a lattice of 6 x 6."""
    process, times = VP(), log_grid(8.0, 0.05, 40)
    noise = TrajectoryNoise(seed, trajectories)
    x = initial_state(process, 8.0, noise, (1, 6, 6), dtype)
    return simulate(
        patch_denoiser(),
        process,
        x,
        times,
        noise,
        sampler=sampler,
        observables=[
            SignCorrelation(),
            StructureFactor(2),
            Function("gain", lambda state: exact_gains(state.denoiser, state.edm, state.sigma, 2)),
        ],
        measure_at=[0, 10, 33, 40],
        snapshots_at=[0, 20, 40],
    )


@samplers
def test_results_do_not_depend_on_the_batch(sampler):
    """States, snapshots and curves of a trajectory agree in a batch of 4, in two batches of 2 and alone."""
    whole = patch_run(range(4), sampler)
    assert not torch.allclose(whole.state[0], whole.state[1])
    for group in ((0, 1), (2, 3), (3,), (0,), (2, 1)):
        part = patch_run(group, sampler)
        pairs = [(part.state, whole.state), (part.snapshots, whole.snapshots)]
        pairs += [(part.values[name], whole.values[name]) for name in whole.values]
        for some, every in pairs:
            torch.testing.assert_close(some, every[list(group)], rtol=1e-10, atol=1e-10)


@samplers
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_same_run_twice_is_bit_identical(sampler, dtype):
    """The same seed gives the same bits; another seed gives other states."""
    one, two, other = (patch_run(range(3), sampler, seed, dtype) for seed in (2, 2, 3))
    assert one.state.dtype == dtype
    assert torch.equal(one.state, two.state)
    assert torch.equal(one.snapshots, two.snapshots)
    for name in one.values:
        assert torch.equal(one.values[name], two.values[name])
    assert not torch.allclose(one.state, other.state, atol=0.1)


@samplers
def test_measurements_and_snapshots_are_taken_where_asked(sampler):
    """Index k means the state at times[k], the start and the end included; times, order and the given x are kept."""
    denoiser, process, times = patch_denoiser(), VP(), log_grid(3.0, 0.1, 12)
    x = normal(3, 1, 5, 5)
    before, seen, done = x.clone(), [], []

    def moment(state):
        seen.append((float(state.t), state.step))
        assert state.denoiser is denoiser
        assert state.process is process
        assert state.trajectories == [0, 1, 2]
        torch.testing.assert_close(state.edm, state.x / process.alpha(state.t).to(state.x))
        return state.x.square().mean((1, 2, 3))

    run = simulate(
        denoiser,
        process,
        x,
        times,
        TrajectoryNoise(1, range(3)),
        sampler=sampler,
        observables=[WHOLE, Function("moment", moment)],
        measure_at=[0, 5, 12],
        snapshots_at=[0, 4, 5, 12],
        on_step=lambda: done.append(1),
    )
    assert torch.equal(x, before)
    assert len(done) == 12
    assert torch.equal(run.times, times[[0, 5, 12]])
    assert seen == list(zip(run.times.tolist(), [0, 5, 12], strict=True))
    assert torch.equal(run.snapshot_times, times[[0, 4, 5, 12]])
    assert run.snapshots.shape == (3, 4, 1, 5, 5)
    assert torch.equal(run.snapshots[:, 0], x)
    assert torch.equal(run.snapshots[:, -1], run.state)
    assert torch.equal(run.values["state"], run.snapshots[:, [0, 2, 3]])
    torch.testing.assert_close(run.values["moment"], run.values["state"].square().mean((2, 3, 4)))
    for i, k in ((1, 4), (2, 5)):
        shorter = simulate(denoiser, process, x, times[: k + 1], TrajectoryNoise(1, range(3)), sampler=sampler)
        # a vector of times of another length may round its exponentials otherwise
        torch.testing.assert_close(shorter.state, run.snapshots[:, i], rtol=1e-12, atol=1e-12)


def test_nothing_measured_gives_empty_arrays():
    """Without observables or snapshots a run returns the final state alone."""
    run = simulate(halving, VP(), normal(2, 1, 5, 5), log_grid(1.0, 0.5, 3), TrajectoryNoise(0, [0, 1]))
    assert run.values == {}
    assert run.times.shape == (0,)
    assert run.snapshots.shape == (2, 0, 1, 5, 5)


@pytest.mark.parametrize("name", ["measure_at", "snapshots_at"])
@pytest.mark.parametrize("index", [-1, 4])
def test_indices_off_the_grid_are_refused(name, index):
    """An index that is not one of the grid's is refused by name before anything is computed."""
    with refused(rf"^{name}: got indices \[0, {index}\]; expected grid indices from 0 to 3"):
        simulate(
            patch_denoiser(), VP(), normal(1, 1, 5, 5), log_grid(1.0, 0.5, 3), TrajectoryNoise(0, [0]),
            **{name: [0, index]},
        )  # fmt: skip


@samplers
def test_sampling_keeps_no_graph(sampler):
    """A denoiser with trainable parameters sees states without a graph; forward-mode AD still works on the way."""
    weight = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    grown = []

    def network(x, sigma):
        grown.append(x.requires_grad)
        return weight * x / (1 + sigma**2)

    times = log_grid(1.0, 0.5, 4)
    gain = [ModeGains(1, "jvp")]
    run = simulate(
        network, VP(), normal(2, 1, 5, 5), times, TrajectoryNoise(0, [0, 1]), sampler=sampler, observables=gain,
        measure_at=range(5),
    )  # fmt: skip
    assert not any(grown)
    assert not run.state.requires_grad
    expected = 0.7 / (1 + VP().noise_level(times) ** 2)
    torch.testing.assert_close(run.values["gain"], expected[None, :, None, None].expand(2, 5, 2, 2))


STEPS = 70


@samplers
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("step", [0, 30, LOOK_EVERY - 1, LOOK_EVERY, 45, 63, 64, STEPS - 1])
def test_a_broken_state_is_named(sampler, value, step):
    """A NaN or infinity from the denoiser raises with exactly its time and trajectory, wherever it appears."""
    times, calls = log_grid(2.0, 0.1, STEPS), []
    slope = 1 if sampler is EULER else 2  # calls per step

    def broken(x, sigma):
        out = halving(x, sigma)
        if len(calls) >= slope * step:
            out[1, 0, 2, 3] = value
        if len(calls) > slope * step:
            out[0, 0, 0, 0] = value  # one call later: another trajectory, which must not be blamed
        calls.append(1)
        return out

    with pytest.raises(NonFiniteStateError) as error:
        simulate(broken, VP(), normal(3, 1, 5, 5), times, TrajectoryNoise(0, [5, 6, 9]), sampler=sampler)
    # Heun's second slope breaks trajectory 5 within the same step
    assert error.value.trajectory == (6 if sampler is EULER else 5)
    assert error.value.t == float(times[step + 1])
    assert f"trajectory {error.value.trajectory} became NaN or infinite at t = {error.value.t:.6g}" in str(error.value)
    assert len(calls) <= slope * (step + 1 + LOOK_EVERY)


def test_a_broken_initial_state_is_named():
    """A NaN in the given states is reported at the first time, and without noise by its index in the batch."""
    x, times = normal(3, 1, 5, 5), log_grid(2.0, 0.1, 10)
    x[2, 0, 0, 0] = math.nan
    with pytest.raises(NonFiniteStateError) as error:
        simulate(halving, VP(), x, times, sampler=HEUN)
    assert (error.value.trajectory, error.value.t) == (2, 2.0)


@pytest.mark.parametrize(("process", "t"), [(VP(), 0.7), (VP(), 50.0), (VE(), 80.0)], ids=["vp", "vp-50", "ve"])
def test_initial_states_are_noise_of_the_processes_amplitude(process, t):
    """Sampling starts from N(0, sigma(t)^2), drawn from the trajectories' own streams."""
    noise = TrajectoryNoise(4, range(3))
    x = initial_state(process, t, noise, (2, 50, 50), torch.float32)
    assert (x.shape, x.dtype) == ((3, 2, 50, 50), torch.float32)
    count, scale = x.numel(), float(process.sigma(t))
    assert float(x.mean()) / scale == pytest.approx(0, abs=4 / math.sqrt(count))
    assert float(x.double().square().mean()) / scale**2 == pytest.approx(1, abs=4 * math.sqrt(2 / count))
    alone = initial_state(process, t, TrajectoryNoise(4, [2]), (2, 50, 50), torch.float32)
    assert torch.equal(alone[0], x[2])


def test_initial_noise_beyond_the_dtype_is_refused():
    """A noise level whose square overflows float32 is refused with the argument's name; float64 can carry it."""
    noise = TrajectoryNoise(0, [0])
    with refused(r"^t_max: got 100, noise level 5\.18e\+21, beyond torch\.float32"):
        initial_state(VP(), 100.0, noise, (1, 4), torch.float32)
    assert initial_state(VP(), 100.0, noise, (1, 4), torch.float64).isfinite().all()
    with refused("t_max"):
        initial_state(VE(), math.inf, noise, (1, 4), torch.float64)
