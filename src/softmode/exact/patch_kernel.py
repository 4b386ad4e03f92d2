"""The dynamics of patch models on the processor, compiled: one pass over memory per step, in any dimension.

A lattice is [n0, n1, n2], its second axis of side 1 in two dimensions and its first besides in one, and is worked on
slab by slab along the first: a ring of slabs holds what the receptive field reaches, so a state is read once and
written once per step. Rows along the last axis are vectors to the compiler: every function of a row is a loop of plain
arithmetic over flat arrays, from a place in each, which is unsigned so that no index may count from the end. Several
replicas go together, interleaved at every site, so that rows are long: n2 and all distances along the last axis are
then as many times larger.
"""
# mypy: disable-error-code="untyped-decorator"

from typing import Any, no_type_check

import numpy as np
from numba import njit

from softmode.counter_noise import MULTIPLIERS, ROUNDS, SIXTH, SIZE, WEYL

FAST: Any = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
ROW: Any = {**FAST, "forceinline": True}
M0, M1, SHIFT = np.uint64(MULTIPLIERS[0]), np.uint64(MULTIPLIERS[1]), np.uint64(32)
W0, W1 = np.uint32(WEYL[0]), np.uint32(WEYL[1])
LOW, HALF = np.uint32(0xFFFF), np.uint32(16)
PLUS, MINUS, POINT = np.uint32(SIXTH), np.uint32(2**16 - SIXTH), np.float32(SIZE)
LOG2_E, LN2_HIGH, LN2_LOW = np.float32(1.4426950408889634), np.float32(0.693359375), np.float32(-2.12194440e-4)
LN2, TWO_PI, UNIT = np.float32(0.6931471805599453), np.float32(6.283185307179586), np.float32(2.0**-24)
# e^y is taken for 0 below, where single precision has no normal numbers left
SMALLEST = np.float32(-87)


@njit(inline="always")
@no_type_check
def _philox(c0, c1, c2, c3, k0, k1):
    for _ in range(ROUNDS):
        p0, p1 = M0 * np.uint64(c0), M1 * np.uint64(c2)
        c0, c2 = np.uint32(np.uint32(p1 >> SHIFT) ^ c1 ^ k0), np.uint32(np.uint32(p0 >> SHIFT) ^ c3 ^ k1)
        c1, c3 = np.uint32(p1), np.uint32(p0)
        k0, k1 = np.uint32(k0 + W0), np.uint32(k1 + W1)
    return c0, c1, c2, c3


@njit(inline="always")
@no_type_check
def _point(half):
    return POINT if half < PLUS else (-POINT if half >= MINUS else np.float32(0))


@njit(inline="always")
@no_type_check
def _exp(y):
    """Return e^y, y in [-87, 87], by Taylor's series on half a factor of 2."""
    n = np.float32(np.rint(y * LOG2_E))
    r = (y - n * LN2_HIGH) - n * LN2_LOW
    p = np.float32(1 / 5040)
    p = p * r + np.float32(1 / 720)
    p = p * r + np.float32(1 / 120)
    p = p * r + np.float32(1 / 24)
    p = p * r + np.float32(1 / 6)
    p = p * r + np.float32(0.5)
    p = p * r + np.float32(1)
    p = p * r + np.float32(1)
    return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@njit(inline="always")
@no_type_check
def _tanh(z):
    z = np.float32(9) if z > np.float32(9) else (np.float32(-9) if z < np.float32(-9) else z)
    return np.float32(1) - np.float32(2) / (_exp(np.float32(2) * z) + np.float32(1))


@njit(inline="always")
@no_type_check
def _log(u):
    """Return log u of a positive normal number, by the series of artanh on [1/sqrt 2, sqrt 2]."""
    bits = np.float32(u).view(np.uint32)
    exponent = np.int32(bits >> np.uint32(23)) - np.int32(127)
    m = np.uint32((bits & np.uint32(0x7FFFFF)) | np.uint32(0x3F800000)).view(np.float32)
    large = m > np.float32(1.4142135)
    m = np.float32(m * np.float32(0.5)) if large else m
    exponent = exponent + np.int32(1) if large else exponent
    s = (m - np.float32(1)) / (m + np.float32(1))
    z = s * s
    p = np.float32(2 / 11)
    p = p * z + np.float32(2 / 9)
    p = p * z + np.float32(2 / 7)
    p = p * z + np.float32(2 / 5)
    p = p * z + np.float32(2 / 3)
    p = p * z + np.float32(2)
    return np.float32(exponent) * LN2 + p * s


@njit(inline="always")
@no_type_check
def _cos_sin(v):
    """Return cos and sin of 2 pi v, v in [0, 1), by Taylor's series on an eighth of a turn to either side."""
    quarter = np.float32(np.rint(v * np.float32(4)))
    f = (v - quarter * np.float32(0.25)) * TWO_PI
    z = f * f
    s = np.float32(1 / 362880)
    s = s * z - np.float32(1 / 5040)
    s = s * z + np.float32(1 / 120)
    s = s * z - np.float32(1 / 6)
    s = s * z + np.float32(1)
    s = s * f
    c = np.float32(1 / 40320)
    c = c * z - np.float32(1 / 720)
    c = c * z + np.float32(1 / 24)
    c = c * z - np.float32(0.5)
    c = c * z + np.float32(1)
    i = np.int32(quarter)
    odd = (i & np.int32(1)) != 0
    sine, cosine = (c if odd else s), (s if odd else c)
    sine = -sine if (i & np.int32(2)) != 0 else sine
    cosine = -cosine if ((i + np.int32(1)) & np.int32(2)) != 0 else cosine
    return cosine, sine


@njit(inline="always")
@no_type_check
def _pair(a, b):
    u = (np.float32(np.int32(a >> np.uint32(8))) + np.float32(0.5)) * UNIT
    v = np.float32(np.int32(b >> np.uint32(8))) * UNIT
    radius = np.float32(np.sqrt(np.float32(-2) * _log(u)))
    cosine, sine = _cos_sin(v)
    return radius * cosine, radius * sine


@njit(**ROW)
@no_type_check
def _gaussian_rows(out, group, step, streams, n):
    """Write the numbers of four rows."""
    for i in range(n):
        a, b, c, d = _philox(streams[0, i], group, step, np.uint32(0), streams[1, i], streams[2, i])
        out[i], out[np.uintp(n + i)] = _pair(a, b)
        out[np.uintp(2 * n + i)], out[np.uintp(3 * n + i)] = _pair(c, d)


@njit(**ROW)
@no_type_check
def _three_point_rows(out, group, step, streams, n):
    """Write the numbers of eight rows."""
    for i in range(n):
        a, b, c, d = _philox(streams[0, i], group, step, np.uint32(1), streams[1, i], streams[2, i])
        out[i], out[np.uintp(n + i)] = _point(a & LOW), _point(b & LOW)
        out[np.uintp(2 * n + i)], out[np.uintp(3 * n + i)] = _point(c & LOW), _point(d & LOW)
        out[np.uintp(4 * n + i)], out[np.uintp(5 * n + i)] = _point(a >> HALF), _point(b >> HALF)
        out[np.uintp(6 * n + i)], out[np.uintp(7 * n + i)] = _point(c >> HALF), _point(d >> HALF)


@njit(**ROW)
@no_type_check
def _add_noise(y, at, kept, kept_at, x, x_at, xi, xi_at, before, below, above, n):
    """Write x + before xi into a row with room for its periodic images at both ends, and keep xi."""
    inner = at + below
    for i in range(n):
        drawn = xi[np.uintp(xi_at + i)]
        y[np.uintp(inner + i)] = x[np.uintp(x_at + i)] + before * drawn
        kept[np.uintp(kept_at + i)] = drawn
    for i in range(below):
        y[np.uintp(at + i)] = y[np.uintp(at + n + i)]
    for i in range(above):
        y[np.uintp(inner + n + i)] = y[np.uintp(inner + i)]


@njit(**ROW)
@no_type_check
def _add_shifted(out, at, a, start, places, n):
    """Write the sum of rows of one array from some places after the start, as many at a time as a box often has."""
    count = places.size
    if count == 5:
        p, q, r, s, t = start + places[0], start + places[1], start + places[2], start + places[3], start + places[4]
        for i in range(n):
            out[np.uintp(at + i)] = (
                a[np.uintp(p + i)] + a[np.uintp(q + i)] + a[np.uintp(r + i)] + a[np.uintp(s + i)] + a[np.uintp(t + i)]
            )
        return
    p, q, r = start + places[0], start + places[min(1, count - 1)], start + places[min(2, count - 1)]
    if count >= 3:
        for i in range(n):
            out[np.uintp(at + i)] = a[np.uintp(p + i)] + a[np.uintp(q + i)] + a[np.uintp(r + i)]
    elif count == 2:
        for i in range(n):
            out[np.uintp(at + i)] = a[np.uintp(p + i)] + a[np.uintp(q + i)]
    else:
        for i in range(n):
            out[np.uintp(at + i)] = a[np.uintp(p + i)]
    for j in range(3, count):
        p = start + places[j]
        for i in range(n):
            out[np.uintp(at + i)] += a[np.uintp(p + i)]


@njit(**ROW)
@no_type_check
def _add_weighted(out, at, a, places, weights, first, n):
    """Write the weighted sum of rows of one array that begin at some places, five at a time."""
    for i in range(n):
        out[np.uintp(at + i)] = np.float32(0)
    count = places.size
    whole = count - count % 5
    for j in range(0, whole, 5):
        p, q, r, s, t = places[j], places[j + 1], places[j + 2], places[j + 3], places[j + 4]
        k = first + j
        wp, wq, wr, ws, wt = weights[k], weights[k + 1], weights[k + 2], weights[k + 3], weights[k + 4]
        for i in range(n):
            out[np.uintp(at + i)] += (
                wp * a[np.uintp(p + i)] + wq * a[np.uintp(q + i)] + wr * a[np.uintp(r + i)] + ws * a[np.uintp(s + i)]
                + wt * a[np.uintp(t + i)]
            )  # fmt: skip
    for j in range(whole, count):
        p, wp = places[j], weights[first + j]
        for i in range(n):
            out[np.uintp(at + i)] += wp * a[np.uintp(p + i)]


@njit(**ROW)
@no_type_check
def _finish_two_state(out, at, total, y, y_at, xi, xi_at, gain, keep, pull, after, n):
    for i in range(n):
        mean = _tanh(gain * total[i])
        out[np.uintp(at + i)] = keep * y[np.uintp(y_at + i)] + pull * mean + after * xi[np.uintp(xi_at + i)]


@njit(**ROW)
@no_type_check
def _finish(out, at, mean, y, y_at, xi, xi_at, keep, pull, after, n):
    for i in range(n):
        out[np.uintp(at + i)] = keep * y[np.uintp(y_at + i)] + pull * mean[i] + after * xi[np.uintp(xi_at + i)]


@njit(**ROW)
@no_type_check
def _posterior_mean(mean, below, highest, overlaps, plus, minus, centre, norms, gain, n):
    """Write E[p(0)] of patterns and their flips, of overlaps [kernel site]; `below` and `highest` are for work.

    Source: paper Eqs. 54-56.
    """
    for i in range(n):
        highest[i] = np.float32(-1e30)
        mean[i] = np.float32(0)
        below[i] = np.float32(0)
    for a in range(plus.size):
        o, p, m = a * n, plus[a] - norms[a] * gain, minus[a] - norms[a] * gain
        for i in range(n):
            overlap = gain * overlaps[np.uintp(o + i)]
            up, down = overlap + p, m - overlap
            top = up if up > down else down
            highest[i] = top if top > highest[i] else highest[i]
    for a in range(plus.size):
        o, p, m, c = a * n, plus[a] - norms[a] * gain, minus[a] - norms[a] * gain, centre[a]
        for i in range(n):
            overlap = gain * overlaps[np.uintp(o + i)]
            up, down = overlap + p - highest[i], m - overlap - highest[i]
            up = _exp(up if up > SMALLEST else SMALLEST)
            down = _exp(down if down > SMALLEST else SMALLEST)
            mean[i] += c * (up - down)
            below[i] += up + down
    for i in range(n):
        mean[i] = mean[i] / below[i]


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
                    _gaussian_rows(drawn, np.uint32(group), step, streams, n2)
                else:
                    _three_point_rows(drawn, np.uint32(group), step, streams, n2)
            y_at = (slot * high + below1 + j) * wide
            _add_noise(padded, y_at, xi, (slot * n1 + j) * n2, x, row * n2, drawn, (row & (together - 1)) * n2, before,
                       below2, above2, n2)  # fmt: skip
            if box and n1 == 1:
                _add_shifted(sums, slot * n2, padded, y_at, along, n2)
            elif box:
                _add_shifted(across, j * n2, padded, y_at, along, n2)
        if box and n1 > 1:
            for j in range(n1):
                for u in range(around.size):
                    around[u] = (j + u - below1) % n1 * n2
                _add_shifted(sums, (slot * n1 + j) * n2, across, 0, around, n2)
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
                _add_shifted(overlaps, 0, sums, 0, which, n2)
            else:
                for u in range(size):
                    ring = lowest + below0 + offsets[u, 0]
                    ring = ring if ring < length else ring - length
                    shifted[u] = (ring * high + below1 + j + offsets[u, 1]) * wide + below2 + offsets[u, 2]
                for a in range(weights.size // size):
                    _add_weighted(overlaps, a * n2, padded, shifted, weights, a * size, n2)
            at, y_at = (target * n1 + j) * n2, (here * high + below1 + j) * wide + below2
            noise_at = (here * n1 + j) * n2
            if plus.size == 0:
                _finish_two_state(out, at, overlaps, padded, y_at, xi, noise_at, gain, keep, pull, after, n2)
            else:
                _posterior_mean(rows[0], rows[1], rows[2], overlaps, plus, minus, centre, norms, gain, n2)
                _finish(out, at, rows[0], padded, y_at, xi, noise_at, keep, pull, after, n2)
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
