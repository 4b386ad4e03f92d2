"""The dynamics of patch models on the processor, compiled: one pass over memory per step, in any dimension.

A lattice is [n0, n1, n2], its second axis of side 1 in two dimensions and its first besides in one, and is worked on
slab by slab along the first: a ring of slabs holds what the receptive field reaches, so a state is read once and
written once per step. Several replicas go together, interleaved at every site, so that rows are long: n2 and all
distances along the last axis are then as many times larger.
"""
# mypy: disable-error-code="untyped-decorator"

from typing import no_type_check

import numpy as np
from numba import njit

from softmode.exact.patch_rows import (
    FAST,
    ROW,
    add_noise,
    add_shifted,
    add_weighted,
    finish,
    finish_two_state,
    gaussian_rows,
    posterior_mean,
    three_point_rows,
)


@njit(**FAST)
@no_type_check
def workspace(shape, reach, box, kernels, gaussian):
    """Return the arrays in which a band is worked on: rings of slabs, of their noise and sums; rows."""
    _, n1, n2 = shape
    length = reach[0, 0] + reach[0, 1] + 1
    padded = np.empty(length * (n1 + reach[1, 0] + reach[1, 1]) * (n2 + reach[2, 0] + reach[2, 1]), np.float32)
    xi, drawn = np.empty(length * n1 * n2, np.float32), np.empty((4 if gaussian else 8) * n2, np.float32)
    sums, across = np.empty((length * n1 if box else 1) * n2, np.float32), np.empty(n1 * n2, np.float32)
    return padded, xi, drawn, sums, across, np.empty(kernels * n2, np.float32), np.empty((3, n2), np.float32)


@njit(**ROW)
@no_type_check
def step_band(x, out, shape, first, last, work, reach, stride, box, offsets, weights, plus, minus, centre, norms,
              coefficients, streams, step, gaussian):  # fmt: skip
    """Write one step of slabs first to last.

    Args:
        x: State, flat.
        out: Next state, flat.
        shape: Sides n0, n1 and, times the number of replicas, n2.
        first: First slab.
        last: One beyond the last.
        work: A `workspace`.
        reach: How far the receptive field reaches below and above along each axis, [3, 2].
        stride: Number of replicas, a site's distance from the next one along the last axis.
        box: Whether it is a box whose sites all weigh 1: two states then.
        offsets: Offsets [|Omega|, 3].
        weights: Kernels, up to their signs, flat [kernel |Omega|].
        plus: Log prior of each kernel's pattern; of two states none is given.
        minus: Log prior of its flip.
        centre: Value of each kernel's pattern at the site.
        norms: Half its squared norm, less the least.
        coefficients: 1/sigma^2, before, keep, pull and after, [5].
        streams: Column, and both words of its replica's key, of everything in a row, [3, n2].
        step: Index of the step.
        gaussian: Whether the noise is.
    """
    n0, n1, n2 = shape
    padded, xi, drawn, sums, across, overlaps, rows = work
    gain, before, keep, pull, after = coefficients
    below0, above0, below1, above1 = reach[0, 0], reach[0, 1], reach[1, 0], reach[1, 1]
    below2, above2 = reach[2, 0], reach[2, 1]
    length, size = below0 + above0 + 1, offsets.shape[0]
    wide, high = n2 + below2 + above2, n1 + below1 + above1
    # rows whose numbers are drawn together
    shift, group = (2 if gaussian else 3), -1
    together = 1 << shift
    # the next slab's place in the ring, and the one of the lowest slab that the next target reads
    slot, lowest = length - 1, 0
    along, around = np.arange(0, below2 + above2 + 1, stride), np.empty(below1 + above1 + 1, np.int64)
    which, shifted = np.empty(length, np.int64), np.empty(size, np.int64)
    for s in range(first - below0, last + above0):
        slot = slot + 1 if slot + 1 < length else 0
        slab = s + n0 if s < 0 else (s - n0 if s >= n0 else s)
        for j in range(n1):
            row = slab * n1 + j
            if row >> shift != group:
                group = row >> shift
                if gaussian:
                    gaussian_rows(drawn, np.uint32(group), step, streams, n2)
                else:
                    three_point_rows(drawn, np.uint32(group), step, streams, n2)
            y_at = (slot * high + below1 + j) * wide
            add_noise(padded, y_at, xi, (slot * n1 + j) * n2, x, row * n2, drawn, (row & (together - 1)) * n2, before,
                       below2, above2, n2)  # fmt: skip
            if box and n1 == 1:
                add_shifted(sums, slot * n2, padded, y_at, along, n2)
            elif box:
                add_shifted(across, j * n2, padded, y_at, along, n2)
        if box and n1 > 1:
            for j in range(n1):
                for u in range(around.size):
                    around[u] = (j + u - below1) % n1 * n2
                add_shifted(sums, (slot * n1 + j) * n2, across, 0, around, n2)
        for j in range(high if n1 > 1 else 0):
            if j < below1 or j >= below1 + n1:
                image = (j - below1) % n1 + below1
                for i in range(wide):
                    padded[np.uintp((slot * high + j) * wide + i)] = padded[np.uintp((slot * high + image) * wide + i)]
        target = s - above0
        if target < first:
            continue
        here = lowest + below0 if lowest + below0 < length else lowest + below0 - length
        for j in range(n1):
            if box:
                for u in range(length):
                    ring = lowest + u if lowest + u < length else lowest + u - length
                    which[u] = (ring * n1 + j) * n2
                add_shifted(overlaps, 0, sums, 0, which, n2)
            else:
                for u in range(size):
                    ring = lowest + below0 + offsets[u, 0]
                    ring = ring if ring < length else ring - length
                    shifted[u] = (ring * high + below1 + j + offsets[u, 1]) * wide + below2 + offsets[u, 2]
                for a in range(weights.size // size):
                    add_weighted(overlaps, a * n2, padded, shifted, weights, a * size, n2)
            at, y_at = (target * n1 + j) * n2, (here * high + below1 + j) * wide + below2
            noise_at = (here * n1 + j) * n2
            if plus.size == 0:
                finish_two_state(out, at, overlaps, padded, y_at, xi, noise_at, gain, keep, pull, after, n2)
            else:
                posterior_mean(rows[0], rows[1], rows[2], overlaps, plus, minus, centre, norms, gain, n2)
                finish(out, at, rows[0], padded, y_at, xi, noise_at, keep, pull, after, n2)
        lowest = lowest + 1 if lowest + 1 < length else 0


@njit(**FAST)
@no_type_check
def order_parameter(x, shape, stride, waves, columns, out):
    """Write m and the mean over the axes of S(k_min), of every replica.

    Args:
        x: State, flat.
        shape: Sides n0, n1, n2.
        stride: Number of replicas.
        waves: Cosine and sine of k_min i along each axis, [3, 2, longest side]; 0 for an axis of side 1.
        columns: For work, [5, n2].
        out: Where they are written, [replica, 2].
    """
    n0, n1, n2 = shape
    columns[:] = np.float32(0)
    total, cosine, sine, across, up = columns[0], columns[1], columns[2], columns[3], columns[4]
    for s in range(n0):
        c0, s0 = waves[0, 0, s], waves[0, 1, s]
        for j in range(n1):
            c1, s1, at = waves[1, 0, j], waves[1, 1, j], (s * n1 + j) * n2
            for i in range(n2):
                value = x[np.uintp(at + i)]
                total[i] += value
                cosine[i] += c0 * value
                sine[i] += s0 * value
            if n1 > 1:
                for i in range(n2):
                    value = x[np.uintp(at + i)]
                    across[i] += c1 * value
                    up[i] += s1 * value
    sites, axes = x.size // stride, 1 + (n0 > 1) + (n1 > 1)
    for replica in range(stride):
        sums = np.zeros(7)
        for site in range(n2 // stride):
            i = site * stride + replica
            for k in range(5):
                sums[k] += columns[k, i]
            sums[5] += waves[2, 0, site] * total[i]
            sums[6] += waves[2, 1, site] * total[i]
        out[replica, 0], out[replica, 1] = sums[0] / sites, (sums[1:] ** 2).sum() / (axes * sites)


@njit(**FAST)
@no_type_check
def run(x, other, shape, first, last, work, reach, stride, box, offsets, weights, plus, minus, centre, norms,
        coefficients, streams, step, gaussian, waves, columns, series):  # fmt: skip
    """Take replicas through all steps, between two buffers by turns, so that the last state ends in x.

    Where there is a series, the steps are taken once for each of its times, and the state is measured after each.
    Where not all slabs are asked for, one step of them is written to `other`, and no more.
    """
    if last - first < shape[0]:
        step_band(x, other, shape, first, last, work, reach, stride, box, offsets, weights, plus, minus, centre, norms,
                  coefficients[0], streams, np.uint32(step), gaussian)  # fmt: skip
        return
    count = coefficients.shape[0]
    for k in range(count * max(series.shape[0], 1)):
        step_band(x, other, shape, first, last, work, reach, stride, box, offsets, weights, plus, minus, centre, norms,
                  coefficients[k % count], streams, np.uint32(step + k), gaussian)  # fmt: skip
        x, other = other, x
        if series.shape[0] and (k + 1) % count == 0:
            order_parameter(x, shape, stride, waves, columns, series[k // count])
    if count * max(series.shape[0], 1) % 2 == 1:
        other[:] = x
