"""What the compiled dynamics of patch models does to a row: random numbers, sums of neighbours, posterior means.

Every function is a loop of plain arithmetic over flat arrays, from a place in each, which is unsigned so that no index
may count from the end: that is what a compiler makes vectors of.
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
def gaussian_rows(out, group, step, streams, n):
    """Write the numbers of four rows."""
    for i in range(n):
        a, b, c, d = _philox(streams[0, i], group, step, np.uint32(0), streams[1, i], streams[2, i])
        out[i], out[np.uintp(n + i)] = _pair(a, b)
        out[np.uintp(2 * n + i)], out[np.uintp(3 * n + i)] = _pair(c, d)


@njit(**ROW)
@no_type_check
def three_point_rows(out, group, step, streams, n):
    """Write the numbers of eight rows."""
    for i in range(n):
        a, b, c, d = _philox(streams[0, i], group, step, np.uint32(1), streams[1, i], streams[2, i])
        out[i], out[np.uintp(n + i)] = _point(a & LOW), _point(b & LOW)
        out[np.uintp(2 * n + i)], out[np.uintp(3 * n + i)] = _point(c & LOW), _point(d & LOW)
        out[np.uintp(4 * n + i)], out[np.uintp(5 * n + i)] = _point(a >> HALF), _point(b >> HALF)
        out[np.uintp(6 * n + i)], out[np.uintp(7 * n + i)] = _point(c >> HALF), _point(d >> HALF)


@njit(**ROW)
@no_type_check
def add_noise(y, at, kept, kept_at, x, x_at, xi, xi_at, before, below, above, n):
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
def add_shifted(out, at, a, start, places, n):
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
def add_weighted(out, at, a, places, weights, first, n):
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
def finish_two_state(out, at, total, y, y_at, xi, xi_at, gain, keep, pull, after, n):
    """Write the next state, from the sums over patches."""
    for i in range(n):
        mean = _tanh(gain * total[i])
        out[np.uintp(at + i)] = keep * y[np.uintp(y_at + i)] + pull * mean + after * xi[np.uintp(xi_at + i)]


@njit(**ROW)
@no_type_check
def finish(out, at, mean, y, y_at, xi, xi_at, keep, pull, after, n):
    """Write the next state, from the posterior means."""
    for i in range(n):
        out[np.uintp(at + i)] = keep * y[np.uintp(y_at + i)] + pull * mean[i] + after * xi[np.uintp(xi_at + i)]


@njit(**ROW)
@no_type_check
def posterior_mean(mean, below, highest, overlaps, plus, minus, centre, norms, gain, n):
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
