"""Dictionaries of patterns: what they hold, what follows from them, and what is refused."""

import math
import re

import numpy as np
import pytest
import torch

from helpers.errors import refused
from helpers.models import LOPSIDED, real_dictionary
from helpers.random import normal
from softmode.exact.dictionary import (
    PatchDictionary,
    paper_dictionary,
    parse_dictionary,
    random_dictionary,
    two_state_dictionary,
    with_uniform,
)
from softmode.lattice import ReceptiveField

# unequal, one of the four patterns switched off
WEIGHTS = (0.1, 0.0, 0.6, 0.3)


def test_random_dictionary_is_m_signs_and_their_flips():
    """M sign patterns and their flips, equally likely, the same for the same seed only (Eqs. 23, 24)."""
    field = ReceptiveField.box(5, 2)
    dictionary = random_dictionary(8, 3, field)
    assert dictionary.patterns.shape == (16, 25)
    assert set(dictionary.patterns.flatten().tolist()) == {-1.0, 1.0}
    assert torch.equal(dictionary.patterns[:8], -dictionary.patterns[8:])
    assert len({tuple(p) for p in dictionary.patterns.tolist()}) == 16
    torch.testing.assert_close(dictionary.prior, torch.full((16,), 1 / 16, dtype=torch.float64))
    assert torch.equal(dictionary.patterns, random_dictionary(8, 3, field).patterns)
    assert not torch.equal(dictionary.patterns, random_dictionary(8, 4, field).patterns)
    assert torch.equal(dictionary.centre, dictionary.patterns[:, 12])


def test_random_signs_are_fair():
    """Over 200 seeds of 4 patterns the mean sign, of all and of each of 25 pixels, is 0 within 4 standard errors."""
    field = ReceptiveField.box(5, 2)
    signs = torch.stack([random_dictionary(4, seed, field).patterns[:4] for seed in range(200)])
    assert abs(float(signs.mean())) < 4 / math.sqrt(signs.numel())
    assert signs.mean((0, 1)).abs().max() < 4 / math.sqrt(800)


def test_paper_dictionary_is_equation_49():
    """Ten patterns: 4 random ones and their flips of 0.1 / 8 each, all +1 and all -1 of 0.45 each."""
    dictionary = paper_dictionary(5)
    assert dictionary.receptive_field == ReceptiveField.box(5, 2)
    assert dictionary.patterns.shape == (10, 25)
    assert dictionary.prior.tolist() == pytest.approx([0.0125] * 8 + [0.45] * 2)
    assert torch.equal(dictionary.patterns[:4], -dictionary.patterns[4:8])
    assert dictionary.patterns[8:].unique(dim=1).flatten().tolist() == [1, -1]
    assert torch.equal(dictionary.patterns, paper_dictionary(5).patterns)
    assert not torch.equal(dictionary.patterns, paper_dictionary(6).patterns)
    small = paper_dictionary(5, ReceptiveField.cross(1, 3))
    assert small.patterns.shape == (10, 7)


def test_omega_eff_over_seeds():
    """Omega_eff = 0.9 * 25 + 0.1 * (1 + noise): mean 22.6, standard deviation 0.1 sqrt(24 / 4) = 0.245 over seeds."""
    values = np.array([paper_dictionary(seed).omega_eff for seed in range(200)])
    deviation = 0.1 * math.sqrt(24 / 4)
    stderr = deviation / math.sqrt(200)
    assert stderr < 0.02
    assert abs(values.mean() - 22.6) < 4 * stderr
    assert abs(values.std(ddof=1) - deviation) < 4 * deviation / math.sqrt(2 * 199)


def test_coupling_is_the_covariance_with_the_centre():
    """C_0u = sum_k pi_k p_k(0) p_k(u); it is 1 everywhere and Omega_eff = |Omega| for two states (Eq. 30)."""
    field = ReceptiveField.box(5, 2)
    assert two_state_dictionary(field).omega_eff == 25
    assert two_state_dictionary(field).coupling().tolist() == [1] * 25
    dictionary = real_dictionary(LOPSIDED, *WEIGHTS)
    for j in range(5):
        terms = [
            float(dictionary.prior[k] * dictionary.patterns[k, LOPSIDED.centre] * dictionary.patterns[k, j])
            for k in range(4)
        ]
        assert float(dictionary.coupling()[j]) == pytest.approx(math.fsum(terms), rel=1e-13)


def test_is_symmetric_compares_probabilities():
    """A dictionary is Z2-symmetric if p and -p are equally likely in total; patterns of probability 0 do not count."""
    field = ReceptiveField.box(3, 1)
    p, q = [1.0, -1.0, 1.0], [0.5, 0.0, 2.0]

    def symmetric(patterns, prior):
        return PatchDictionary(field, torch.tensor(patterns).double(), torch.tensor(prior).double()).is_symmetric()

    flip, minus = [-v for v in p], [-v for v in q]
    assert paper_dictionary(0).is_symmetric()
    assert two_state_dictionary(field).is_symmetric()
    assert symmetric([p, flip, q, minus], [0.2, 0.2, 0.3, 0.3])
    assert symmetric([p, flip, p], [0.25, 0.5, 0.25])
    assert symmetric([p, flip, q], [0.5, 0.5, 0.0])
    assert symmetric([[0.0, 0.0, 0.0]], [1.0])
    assert not symmetric([p, flip], [0.4, 0.6])
    assert not symmetric([p, q], [0.5, 0.5])
    assert not symmetric([p, flip, q], [0.4, 0.4, 0.2])


@pytest.mark.parametrize(
    ("patterns", "prior", "message"),
    [
        (torch.ones(2, 9), torch.tensor([0.7, -0.3]), "prior: got a negative"),
        (torch.ones(2, 9), torch.tensor([0.7, math.nan]), "prior: got a negative or non-finite"),
        (torch.ones(2, 9), torch.tensor([0.7, 0.7]), "prior: sums to 1.4"),
        (torch.ones(2, 9), torch.tensor([0.5, 0.25]), "prior: sums to 0.75"),
        (torch.ones(2, 9), torch.ones(3) / 3, "prior: got shape (3,); expected (2,)"),
        (torch.ones(2, 8), torch.ones(2) / 2, "patterns: got shape (2, 8); expected (patterns, 9)"),
        (torch.ones(0, 9), torch.ones(0), "patterns: got shape (0, 9)"),
        (torch.full((2, 9), math.inf), torch.ones(2) / 2, "patterns: got a value that is not finite"),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_dictionaries_refuse_bad_arrays(patterns, prior, message):
    """Wrong shapes, values that are not finite and priors that are no probabilities are refused by name."""
    with refused(re.escape(message)):
        PatchDictionary(ReceptiveField.box(3), patterns.double(), prior.double())


def test_parse_reads_every_form(tmp_path):
    """The names give their dictionaries; an npz file gives its own, with patterns flat or in the shape of the box."""
    field = ReceptiveField.box(3, 2)
    for text, expected in (
        ("paper", paper_dictionary(2, field)),
        ("two-state", two_state_dictionary(field)),
        ("random:3", random_dictionary(3, 2, field)),
    ):
        found = parse_dictionary(text, 2, field)
        assert torch.equal(found.patterns, expected.patterns)
        assert torch.equal(found.prior, expected.prior)
        assert found.receptive_field == field
    patterns, prior = normal(4, 9), torch.full((4,), 0.25, dtype=torch.float64)
    for shape in ((4, 9), (4, 3, 3)):
        path = str(tmp_path / "dictionary.npz")
        np.savez(path, patterns=patterns.reshape(shape).numpy(), prior=prior.numpy())
        found = parse_dictionary(path, 0, field)
        assert torch.equal(found.patterns, patterns)
        assert torch.equal(found.prior, prior)
        assert patterns[:, 4].equal(found.centre)
    np.savez(path, patterns=np.sign(patterns.numpy()).astype(np.int8), prior=prior.numpy().astype(np.float32))
    assert parse_dictionary(path, 0, field).patterns.dtype == torch.float64


@pytest.mark.parametrize(
    "text", ["", "papers", "random", "random:", "random:x", "random:0", "random:-2", "random:1.5", "random:²", "x.npy"]
)
def test_parse_refuses_other_names(text):
    """Anything else is a ValueError of one line that names the argument."""
    with refused(r"^dictionary: got"):
        parse_dictionary(text, 0, ReceptiveField.box(3))


@pytest.mark.parametrize(
    "content",
    [None, b"", b"text", b"PK\x03\x04 cut short", "npy", "folder"],
    ids=["missing", "empty", "text", "broken-zip", "single-array", "folder"],
)
def test_unreadable_files_are_refused(tmp_path, content):
    """A file that is missing or no npz archive is a ValueError of one line that names the file."""
    path = tmp_path / "dictionary.npz"
    if content == "npy":
        with path.open("wb") as file:
            np.save(file, np.ones((2, 9)))
    elif content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with refused(r"^dictionary: (cannot read|.* is no file)") as error:
        parse_dictionary(str(path), 0, ReceptiveField.box(3))
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"patterns": np.ones((1, 9))}, "dictionary: cannot read"),
        ({"prior": np.ones(1)}, "dictionary: cannot read"),
        ({"patterns": np.array([["a"] * 9]), "prior": np.ones(1)}, "dictionary: cannot read"),
        ({"patterns": np.array([[None] * 9]), "prior": np.ones(1)}, "dictionary: cannot read"),
        ({"patterns": np.ones((1, 8)), "prior": np.ones(1)}, "patterns: got shape (1, 8)"),
        ({"patterns": np.ones(9), "prior": np.ones(1)}, "patterns: got shape (9,)"),
        ({"patterns": np.ones((0, 9)), "prior": np.ones(0)}, "patterns: got shape (0, 9)"),
        ({"patterns": np.full((1, 9), np.nan), "prior": np.ones(1)}, "patterns: got a value that is not finite"),
        ({"patterns": np.ones((2, 9)), "prior": np.array([1.5, -0.5])}, "prior: got a negative"),
        ({"patterns": np.ones((2, 9)), "prior": np.array([1.0, 2.0])}, "prior: sums to 3"),
        ({"patterns": np.ones((2, 9)), "prior": np.array([np.inf, 0])}, "prior: got a negative or non-finite"),
        ({"patterns": np.ones((2, 9)), "prior": np.ones((2, 1)) / 2}, "prior: got shape (2, 1)"),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_files_with_bad_arrays_are_refused(tmp_path, arrays, message):
    """Arrays that are missing, of another type or shape, or no dictionary, are refused in one line."""
    path = str(tmp_path / "dictionary.npz")
    np.savez(path, **arrays)
    with refused(re.escape(message)):
        parse_dictionary(path, 0, ReceptiveField.box(3))


def test_a_uniform_mass_leads_from_the_random_dictionary_to_the_paper_s():
    """At 0.9 with four patterns it is that of Eq. 49, at 0 the random one itself; C is mixed in proportion."""
    field = ReceptiveField.box(3, 2)
    random = random_dictionary(4, 3, field)
    assert with_uniform(random, 0.0) is random
    made, paper = with_uniform(random, 0.9), paper_dictionary(3, field)
    assert torch.equal(made.patterns, paper.patterns)
    torch.testing.assert_close(made.prior, paper.prior)
    half = with_uniform(random, 0.5)
    assert half.is_symmetric()
    torch.testing.assert_close(half.coupling(), (random.coupling() + 1) / 2)
    for mass in (-0.1, 1.0):
        with refused("uniform: got .*; expected a prior mass of at least 0 and below 1"):
            with_uniform(random, mass)
