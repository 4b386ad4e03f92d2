import itertools
import math

import pytest
import torch

from helpers.errors import refused
from helpers.random import normal
from softmode.lattice import Lattice, ReceptiveField

SHAPES = [(7,), (8,), (5, 6), (8, 7), (3, 4, 5)]


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_box_has_the_odd_cube(dimensions):
    """A box of width w holds w^d offsets, none farther than w // 2 along an axis."""
    for width in (1, 3, 5):
        field = ReceptiveField.box(width, dimensions)
        assert field.size == width**dimensions == len(set(field.offsets))
        assert max(abs(c) for u in field.offsets for c in u) == width // 2
        assert field.extent == (width,) * dimensions


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("radius", [0.0, 1.0, 1.5, 2.0, 2.9])
def test_ball_is_a_brute_force_count(dimensions, radius):
    """A ball holds exactly the offsets with |u|^2 <= radius^2, the surface included."""
    candidates = itertools.product(range(-4, 5), repeat=dimensions)
    expected = {u for u in candidates if sum(c * c for c in u) <= radius**2}
    assert set(ReceptiveField.ball(radius, dimensions).offsets) == expected


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("arm", [0, 1, 3])
def test_cross_has_two_arms_an_axis(dimensions, arm):
    """A cross holds 1 + 2 d arm offsets, each with at most one coordinate that is not 0."""
    field = ReceptiveField.cross(arm, dimensions)
    assert field.size == 1 + 2 * dimensions * arm
    assert all(sum(c != 0 for c in u) <= 1 and max(map(abs, u)) <= arm for u in field.offsets)


def test_offsets_are_sorted_and_the_centre_is_the_origin():
    """Offsets given in any order are stored in lexicographic order; centre, reach and extent follow them."""
    field = ReceptiveField(((2, 0), (0, 0), (-1, 3), (0, -1)))
    assert field.offsets == ((-1, 3), (0, -1), (0, 0), (2, 0))
    assert field.centre == 2
    assert field.reach == ((1, 2), (1, 3))
    assert field.extent == (4, 5)
    torch.testing.assert_close(field.tensor()[0], torch.tensor([-1.0, 3.0], dtype=torch.float64))


def test_c_omega_of_the_paper_is_25():
    """The 5x5 box has |Omega| = 25, c_Omega = 25 and the isotropic tensor 25 * identity (facts, reference numbers)."""
    field = ReceptiveField.box(5, 2)
    assert field.size == 25
    assert field.c_omega == 25
    torch.testing.assert_close(field.c_tensor(), 25 * torch.eye(2, dtype=torch.float64))


@pytest.mark.parametrize("field", [ReceptiveField.box(3, 1), ReceptiveField.ball(2.0, 2), ReceptiveField.cross(2, 3)])
def test_c_omega_is_the_mean_diagonal_of_c_tensor(field):
    """c_Omega = tr(c) / d = sum |u|^2 / 2d, in every dimension."""
    brute = sum(c * c for u in field.offsets for c in u) / (2 * field.dimensions)
    assert field.c_omega == pytest.approx(brute, rel=1e-13)
    assert float(field.c_tensor().trace()) / field.dimensions == pytest.approx(brute, rel=1e-13)


def test_c_tensor_of_an_asymmetric_field():
    """c_mu_nu = sum u_mu u_nu / 2 keeps the off-diagonal of a field without reflection symmetry."""
    field = ReceptiveField(((0, 0), (1, 2), (0, 1)))
    expected = torch.tensor([[0.5, 1.0], [1.0, 2.5]], dtype=torch.float64)
    torch.testing.assert_close(field.c_tensor(), expected)


def test_transform_of_the_5x5_box_at_the_paper_lattice():
    """Along an axis Omega^(k) = 5 sin(5k/2) / sin(k/2); at L = 80 it is 24.846, 24.387, 23.634 for n = 1, 2, 3."""
    k = Lattice((80, 80)).shell_vectors(3)[1:]
    transform = ReceptiveField.box(5, 2).transform(k)
    n = k.sum(-1)
    torch.testing.assert_close(transform.real, 5 * (2.5 * n).sin() / (0.5 * n).sin(), rtol=1e-13, atol=0)
    assert transform.imag.abs().max() < 1e-13
    for axis in (0, 1):
        assert transform.real[:, axis].tolist() == pytest.approx([24.846, 24.387, 23.634], abs=5e-4)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_transform_is_the_brute_force_sum(dimensions):
    """Omega^(k) = sum_u w_u e^{i k.u} for a batch of kernels and any shape of k, the signs of k.u included."""
    field = ReceptiveField(tuple(u for u in ReceptiveField.box(3, dimensions).offsets if sum(u) >= 0))
    k = normal(4, 2, dimensions)
    weights = normal(3, field.size, seed=1)
    expected = torch.zeros(3, 4, 2, dtype=torch.complex128)
    for a, m, n, (j, u) in itertools.product(range(3), range(4), range(2), enumerate(field.offsets)):
        phase = sum(float(k[m, n, axis]) * u[axis] for axis in range(dimensions))
        expected[a, m, n] += weights[a, j] * complex(math.cos(phase), math.sin(phase))
    torch.testing.assert_close(field.transform(k, weights), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(field.transform(k[0, 0], weights), expected[:, 0, 0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(field.transform(k), field.transform(k, torch.ones(field.size, dtype=torch.float64)))


@pytest.mark.parametrize("field", [ReceptiveField.box(5, 2), ReceptiveField.ball(2.0, 2), ReceptiveField.cross(2, 2)])
def test_gradient_expansion_is_second_order(field):
    """sum_u f(i + u) = |Omega| f + c_Omega laplace f + O(k^4): half the wavenumber leaves a 16th of the error."""
    direction = torch.tensor([0.6, 0.8], dtype=torch.float64)
    error = [
        float(field.transform(k * direction).real - field.size + k**2 * direction @ field.c_tensor() @ direction)
        for k in (0.02, 0.01)
    ]
    assert error[0] / error[1] == pytest.approx(16, rel=1e-2)
    assert abs(error[1]) < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_modes_are_orthonormal(shape):
    """Modes have unit norm and are orthogonal between shells, axes and phases; shell 0 is the one constant mode."""
    lattice = Lattice(shape)
    shells = (min(shape) - 1) // 2
    modes = lattice.modes(shells)
    assert modes.shape == (shells + 1, len(shape), 2, *shape)
    torch.testing.assert_close(modes[0], torch.full_like(modes[0], lattice.sites**-0.5))
    waves = torch.cat([modes[0, 0, 0].reshape(1, -1), modes[1:].reshape(-1, lattice.sites)])
    torch.testing.assert_close(waves @ waves.T, torch.eye(len(waves), dtype=torch.float64), rtol=0, atol=1e-13)


def test_modes_are_the_paper_waves():
    """Shell n along axis a is sqrt(2/N) cos(n k_min i_a) and the sine of it (Eqs. 65, 66, normalised)."""
    modes = Lattice((6, 9)).modes(2)
    for n, i, j in itertools.product((1, 2), range(6), range(9)):
        along = (2 * math.pi * n * i / 6, 2 * math.pi * n * j / 9)
        for axis, wave in itertools.product((0, 1), (0, 1)):
            value = math.sqrt(2 / 54) * (math.cos, math.sin)[wave](along[axis])
            assert float(modes[n, axis, wave, i, j]) == pytest.approx(value, abs=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_modes_span_eigenspaces_of_any_convolution(shape):
    """A periodic convolution of transform c maps a mode to Re c(k) times itself and Im c(k) times the other phase."""
    lattice = Lattice(shape)
    shells = (min(shape) - 1) // 2
    modes, axes = lattice.modes(shells), tuple(range(-len(shape), 0))
    row = normal(*shape)
    sites = list(itertools.product(*map(range, shape)))
    convolved = torch.zeros_like(modes)
    for u in sites:  # (K v)_i = sum_u K(u) v_{i+u}, by rolling
        convolved += row[u] * modes.roll(tuple(-c for c in u), axes)
    k = lattice.shell_vectors(shells)
    waves = torch.exp(1j * (k @ torch.tensor(sites, dtype=torch.float64).T))
    transform = (waves * row.flatten()).sum(-1)
    real, imag = (part.reshape(*k.shape[:2], *[1] * len(shape)) for part in (transform.real, transform.imag))
    cosine, sine = modes.unbind(2)
    torch.testing.assert_close(convolved[:, :, 0], real * cosine - imag * sine, rtol=0, atol=1e-12)
    expected = real * sine + imag * cosine
    torch.testing.assert_close(convolved[1:, :, 1], expected[1:], rtol=0, atol=1e-12)


def test_modes_take_dtype_and_refuse_the_nyquist_shell():
    """Modes come in the dtype asked for; the shell at half the shortest axis, whose sine vanishes, is refused."""
    lattice = Lattice((6, 10))
    assert lattice.modes(2, dtype=torch.float32).dtype == torch.float32
    for shells in (3, -1):
        with refused(r"^shells: got"):
            lattice.modes(shells)
        with refused(r"^shells: got"):
            lattice.wavenumbers(shells)


def test_wavenumbers_are_multiples_of_k_min():
    """Shell n along an axis of length L has |k| = 2 pi n / L, and its wave vector points along that axis only."""
    lattice = Lattice((8, 10))
    expected = 2 * math.pi * torch.tensor([[0, 0], [1 / 8, 1 / 10], [2 / 8, 2 / 10]], dtype=torch.float64)
    assert lattice.k_min == pytest.approx((2 * math.pi / 8, 2 * math.pi / 10))
    torch.testing.assert_close(lattice.wavenumbers(2), expected)
    vectors = lattice.shell_vectors(2)
    torch.testing.assert_close(vectors.diagonal(dim1=-2, dim2=-1), expected)
    assert float(vectors[:, 0, 1].abs().max()) == float(vectors[:, 1, 0].abs().max()) == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_index_of_inverts_wave_vectors(shape):
    """index_of finds every wave vector of the lattice, also shifted by a reciprocal vector, where fftn puts it."""
    lattice = Lattice(shape)
    k = lattice.wave_vectors()
    assert k.shape == (*shape, len(shape))
    expected = torch.meshgrid(*map(torch.arange, shape), indexing="ij")
    for turns in (0, 1, -2):
        for found, index in zip(lattice.index_of(k + 2 * math.pi * turns), expected, strict=True):
            assert torch.equal(found, index)


@pytest.mark.parametrize("shape", SHAPES)
def test_wave_vectors_stand_in_the_order_of_fftn(shape):
    """The plane wave e^{i k.r} of the wave vector at an index has its whole transform at that index."""
    k = Lattice(shape).wave_vectors()
    sites = torch.stack(torch.meshgrid(*map(torch.arange, shape), indexing="ij"), -1).double()
    index = tuple(length - 2 for length in shape)
    spectrum = torch.fft.fftn(torch.exp(1j * (sites @ k[index])), norm="forward")
    expected = torch.zeros_like(spectrum)
    expected[index] = 1
    torch.testing.assert_close(spectrum, expected, rtol=0, atol=1e-13)


def test_index_of_refuses_other_wave_vectors():
    """A wave vector between two of the lattice's, or NaN, is refused in one line that names k."""
    for bad in (0.3, math.nan):
        with refused(r"^k: got"):
            Lattice((8, 8)).index_of(torch.tensor([[0.0, bad]], dtype=torch.float64))


@pytest.mark.parametrize("shape", SHAPES)
def test_distances_and_bins_by_brute_force(shape):
    """The minimal-image distance is the least over all images of a site, and its bin the nearest integer."""
    lattice = Lattice(shape)
    distances, bins = lattice.distances(), lattice.radial_bins()
    for site in itertools.product(*map(range, shape)):
        images = itertools.product(
            *[[c + m * length for m in (-1, 0, 1)] for c, length in zip(site, shape, strict=True)]
        )
        nearest = min(math.hypot(*image) for image in images)
        assert float(distances[site]) == pytest.approx(nearest, abs=1e-13)
        assert int(bins[site]) == math.floor(nearest + 0.5)


def test_lattice_of_a_field_and_its_counts():
    """Lattice.of takes the axes behind batch and channel."""
    lattice = Lattice.of(torch.zeros(2, 3, 4, 5, 6))
    assert (lattice.shape, lattice.dimensions, lattice.sites) == ((4, 5, 6), 3, 120)


@pytest.mark.parametrize("shape", [(), (1,), (5, 1), (4, 4, 4, 4)])
def test_lattice_refuses_other_shapes(shape):
    """No axes, more than three, or an axis of one site are refused by the name of the argument."""
    with refused(r"^shape: got"):
        Lattice(shape)


@pytest.mark.parametrize(
    ("text", "dimensions", "expected"),
    [
        ("box:5", 2, ReceptiveField.box(5, 2)),
        ("box:3", 1, ReceptiveField.box(3, 1)),
        ("ball:2.5", 2, ReceptiveField.ball(2.5, 2)),
        ("ball:1", 3, ReceptiveField.cross(1, 3)),
        ("cross:2", 3, ReceptiveField.cross(2, 3)),
        ("offsets:0,0;0,1;-1,0", 2, ReceptiveField(((0, 0), (0, 1), (-1, 0)))),
        ("offsets:0;2", 1, ReceptiveField(((0,), (2,)))),
    ],
)
def test_parse_reads_every_form(text, dimensions, expected):
    """Each command-line form gives the receptive field of its constructor."""
    assert ReceptiveField.parse(text, dimensions) == expected


@pytest.mark.parametrize(
    ("text", "dimensions"),
    [
        ("box:4", 2), ("box:0", 2), ("box:-3", 2), ("box:x", 2), ("box:", 2), ("box", 2), ("box:3.0", 2),
        ("box:5:5", 2),
        ("ball:-1", 2), ("ball:nan", 2), ("ball:inf", 2), ("ball:wide", 2), ("cross:-1", 2), ("cross:1.5", 2),
        ("disc:3", 2), ("", 2), ("5", 2), ("Box:5", 2), ("box:3", 4), ("cross:1", 0),
        ("offsets:0,1;1,0", 2), ("offsets:0,0;0,0", 2), ("offsets:0,0;1", 2), ("offsets:", 2), ("offsets:0,0;a,b", 2),
        ("offsets:0,0;0,1", 3), ("offsets:0,0,0,0", 4), ("offsets:0;1", 2),
    ],
)  # fmt: skip
def test_parse_refuses_bad_input_in_one_line(text, dimensions):
    """Anything else is a ValueError of one line that names the argument."""
    with refused(r"^(receptive_field|offsets|dimensions): "):
        ReceptiveField.parse(text, dimensions)


def test_an_empty_field_is_refused():
    """A receptive field without offsets is refused."""
    with refused(r"^offsets: "):
        ReceptiveField(())


def test_check_fits_compares_each_axis():
    """A field may fill the lattice but not exceed it along any axis, and must have its number of axes."""
    field = ReceptiveField(((0, 0), (0, 3), (-1, 0)))  # 2 by 4 sites
    field.check_fits((2, 4))
    for shape in ((2, 3), (1, 9), (4,), (4, 4, 4)):
        with refused(r"^receptive_field: spans \(2, 4\) sites"):
            field.check_fits(shape)
