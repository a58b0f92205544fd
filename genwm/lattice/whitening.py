"""From a picture to what it does not explain of itself: the noise that a mark is seen through, made even.

A mark is faint and everywhere alike; a picture is strong in few places and few directions. So each plane loses what is
easily foretold, and what is left is made equally strong. No key is used, so a key's signs are as fair as before.

*Luma*: a box high-pass; then every coefficient of overlapping short-time spectra is brought to one magnitude, the
limiter that detects a known sign in heavy-tailed noise (Hernandez, Amado and Perez-Gonzalez, "DCT-domain watermarking
techniques for still images", IEEE Transactions on Image Processing 9 (1), 2000, at its tails' heaviest): edges and
textures, which fill few coefficients of a block, no longer outweigh the others.

*Colours*: a box high-pass; then what a local linear model of the two other planes explains is taken out, as by a guided
filter (He, Sun and Tang, "Guided image filtering", IEEE PAMI 35 (6), 2013): a thing's colours change where its light
does, and the planes' marks are independent.

Planes are float32 ``(H, W)`` in 8-bit levels; their edges are replicated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

#: Side of the box of the high-pass, and of that over which a deviation is taken: the colours' mark has longer waves, in
#: small pictures less so.
LUMA_WINDOW, COLOUR_WINDOW, SMALL_COLOUR_WINDOW = 5, 9, 7
#: Side of the box over which the colours are explained, and the variances that guides are taken to have besides their
#: own, luma's and the other colour's: what is hardly there explains nothing.
MODEL_WINDOW, GUIDE_NOISE = 11, (2.0, 1.0)
#: Side of the blocks of the short-time spectra; the next one begins in the middle of each.
BLOCK = 16
#: Variance of noise below which a neighbourhood counts as flat: a codec's must not be amplified.
LUMA_NOISE, COLOUR_NOISE = 9.0, 2.0
#: The same for levelled luma, whose variance is 1 at most.
LEVELLED_NOISE = 0.3
#: Greatest magnitude of a sample.
CLIP = 2.5
#: Besides being whitened, a neighbourhood of the colours counts by its deviation to the minus this power: where the
#: picture is calm, the mark is surer.
CALM_POWER = 0.2
#: Samples of a strip that stays in the processor's cache through all steps of whitening it.
_STRIP_SAMPLES = 65_536
#: Rows of blocks that are levelled at once, for the same reason.
_BLOCK_ROWS = 2

_SAMPLES = np.arange(BLOCK)
#: Before and after the spectrum: the squares of the tapers that overlap add up to 1 (Princen and Bradley 1986).
_TAPER = np.sin(np.pi / BLOCK * (_SAMPLES + 0.5))
#: Waves as columns. So short a spectrum is several times as fast by products of matrices as by a Fourier transform.
_WAVES = np.exp(-2j * np.pi / BLOCK * np.outer(_SAMPLES, _SAMPLES))
#: Of tapered rows of real samples (one a row) half the spectrum, real and imaginary parts side by side, and back again;
#: of columns of those the spectrum of all, and back again.
_ACROSS = (_TAPER[:, None] * _WAVES[:, : BLOCK // 2 + 1]).astype(np.complex64).view(np.float32)
_BACK = (_ACROSS * np.repeat([1, *[2] * (BLOCK // 2 - 1), 1], 2) / BLOCK).T.astype(np.float32)
_DOWN = (_WAVES * _TAPER).astype(np.complex64)
_UP = (_DOWN.conj().T / BLOCK).astype(np.complex64)


def whiten_luma(luma: Plane, *, noise: float = LUMA_NOISE) -> tuple[Plane, Plane]:
    """Whitened luma: samples of about unit variance, none beyond ``CLIP``; 0 where nothing stands above its
    neighbourhood. And luma that is high-passed and limited only, in -1..1: where a picture ends, it ends there."""
    residual = high_pass(luma, LUMA_WINDOW)
    return _evened(levelled(residual, noise=noise)), _limited(residual, noise=noise)


def whiten_colours(luma: Plane, blue: Plane, red: Plane, *, noise: float = COLOUR_NOISE, window: int = COLOUR_WINDOW
                   ) -> tuple[Plane, Plane]:
    """Both colour differences, blue's and red's, of planes of one size: without what the other planes explain, over
    their deviation. ``window``: `COLOUR_WINDOW` or `SMALL_COLOUR_WINDOW`."""
    halo = window // 2 + MODEL_WINDOW // 2 + window // 2

    def work(parts: Sequence[Plane], stride: int) -> list[Plane]:
        residuals = [_high_passed(part, stride, window) for part in parts]
        return [_over_deviation(left, stride, window, noise=noise, calm_power=CALM_POWER)
                for left in _unexplained(residuals, stride)]  # fmt: skip

    white_blue, white_red = _in_strips([luma, blue, red], halo, work)
    return white_blue, white_red


def high_pass(plane: Plane, window: int) -> Plane:
    """What a sample has more than the mean of the box around it; exactly 0 where all is the same."""
    return _in_strips([plane], window // 2, lambda parts, stride: [_high_passed(parts[0], stride, window)])[0]


def levelled(residual: Plane, *, noise: float) -> Plane:
    """A plane whose short-time spectra have one magnitude each, of any contrast: coefficients F become
    F / sqrt(|F|^2 + |N|^2), where N is what noise of that variance has. Of unit variance where all stand above it."""
    rows, columns = residual.shape
    hop = BLOCK // 2
    down, across = (-(-(length + hop) // BLOCK) * BLOCK for length in (rows, columns))  # whole blocks
    padded = np.pad(residual, ((hop, down - rows), (hop, across - columns)), mode="edge")
    total = np.zeros_like(padded)
    floor = np.float32(max(noise * float((_TAPER**2).sum()) ** 2, 1e-20))
    for top in (0, hop):  # blocks side by side, four times: so they overlap
        for left in (0, hop):
            for start in range(top, top + down, _BLOCK_ROWS * BLOCK):
                strip = slice(start, min(start + _BLOCK_ROWS * BLOCK, top + down)), slice(left, left + across)
                total[strip] += _levelled_blocks(padded[strip], floor)
    inside: Plane = total[hop : hop + rows, hop : hop + columns]
    return inside


def _levelled_blocks(samples: Plane, floor: np.float32) -> Plane:
    """Blocks side by side, each tapered, levelled and tapered again. Of one strip, which stays in the cache."""
    rows, columns = samples.shape
    halves = (samples.reshape(-1, BLOCK) @ _ACROSS).view(np.complex64)
    spectra = _DOWN @ halves.reshape(rows // BLOCK, BLOCK, -1)
    gain = np.abs(spectra)
    gain *= gain
    gain += floor
    np.sqrt(gain, out=gain)
    np.divide(BLOCK, gain, out=gain)
    spectra *= gain
    waves: Plane = (_UP @ spectra).view(np.float32).reshape(-1, len(_BACK)) @ _BACK
    return waves.reshape(rows, columns)


def _evened(levelled_luma: Plane) -> Plane:
    """Levelled luma, equally strong everywhere: over its root mean square over a box."""
    return _in_strips([levelled_luma], LUMA_WINDOW // 2, lambda parts, stride: [
        _over_deviation(parts[0], stride, LUMA_WINDOW, noise=LEVELLED_NOISE)])[0]  # fmt: skip


def _limited(residual: Plane, *, noise: float) -> Plane:
    """A residual, each sample over the root of its square and of the noise's variance."""
    magnitude = residual * residual
    magnitude += np.float32(noise)
    np.sqrt(magnitude, out=magnitude)
    limited: Plane = residual / magnitude
    return limited


def _unexplained(residuals: Sequence[Plane], stride: int) -> tuple[Plane, Plane]:
    """What is left of both colours once the best local linear model, of luma and the other colour, is taken out: of
    residuals of all planes, rows of ``stride`` end to end."""
    luma, blue, red = residuals

    def mean(first: Plane, second: Plane) -> Plane:
        return _mean_product(first, second, stride, MODEL_WINDOW)

    luma_blue, luma_red, blue_red = mean(luma, blue), mean(luma, red), mean(blue, red)
    light = mean(luma, luma) + np.float32(GUIDE_NOISE[0])
    blues, reds = (mean(colour, colour) + np.float32(GUIDE_NOISE[1]) for colour in (blue, red))
    luma, blue, red = (_inner(plane, MODEL_WINDOW, stride) for plane in residuals)

    def left(own: Plane, other: Plane, with_luma: Plane, other_with_luma: Plane, others: Plane) -> Plane:
        # Cramer's rule for the two slopes; the noise of the guides keeps the determinant above 0.
        share = np.float32(1) / (light * others - other_with_luma * other_with_luma)
        of_luma = (with_luma * others - blue_red * other_with_luma) * share
        of_other = (blue_red * light - with_luma * other_with_luma) * share
        explained: Plane = of_luma * luma + of_other * other
        return own - explained

    return left(blue, red, luma_blue, luma_red, reds), left(red, blue, luma_red, luma_blue, blues)


def _high_passed(samples: Plane, stride: int, window: int) -> Plane:
    count = window**2
    residual = _inner(samples, window, stride) * np.float32(count)  # times the count: exactly 0 where all is the same
    residual -= _box_sums(samples, window, stride)
    residual *= np.float32(1 / count)
    return residual


def _over_deviation(residual: Plane, stride: int, window: int, *, noise: float, calm_power: float = 0.0) -> Plane:
    """A residual over its root mean square over a box, clipped, by which neither edge nor texture outweighs the rest;
    then over that root mean square to a power."""
    deviation = _mean_product(residual, residual, stride, window)
    deviation += np.float32(noise)
    np.sqrt(deviation, out=deviation)
    values = _inner(residual, window, stride) / deviation
    np.clip(values, -CLIP, CLIP, out=values)
    if calm_power:
        values *= deviation ** np.float32(-calm_power)
    return values


def _mean_product(first: Plane, second: Plane, stride: int, window: int) -> Plane:
    """Means of the product of two residuals over a box."""
    sums = _box_sums(first * second, window, stride)
    sums *= np.float32(1 / window**2)
    return sums


def _in_strips(planes: Sequence[Plane], halo: int, work: Callable[[Sequence[Plane], int], Sequence[Plane]]
               ) -> list[Plane]:
    """What ``work`` makes of planes of one size, a strip at a time. It is given rows end to end, which ``halo``
    samples surround, and their length; what it returns is without the halo. Sums of runs of memory are twice as fast
    as those of rows."""
    rows, columns = planes[0].shape
    stride = columns + 2 * halo
    padded = [np.pad(plane.astype(np.float32, copy=False), halo, mode="edge") for plane in planes]
    strips = []
    height = max(8, _STRIP_SAMPLES // columns)
    for start in range(0, rows, height):
        stop = min(start + height, rows)
        strip = []
        for values in work([plane[start : stop + 2 * halo].ravel() for plane in padded], stride):
            whole = np.empty((stop - start) * stride, np.float32)  # what runs over the end of a row is left out
            whole[: len(values)] = values
            strip.append(whole.reshape(-1, stride)[:, :columns])
        strips.append(strip)
    return [np.concatenate(whole) for whole in zip(*strips, strict=True)]


def _inner(samples: Plane, window: int, stride: int) -> Plane:
    """The samples that have a whole box of ``window`` x ``window`` around them."""
    corner = window // 2 * (stride + 1)
    return samples[corner:-corner]


def _box_sums(samples: Plane, window: int, stride: int) -> Plane:
    """Sums of ``window`` x ``window`` samples from each on, of rows of ``stride`` end to end."""
    return _sums(_sums(samples, window, 1), window, stride)


def _sums(samples: Plane, window: int, stride: int) -> Plane:
    """Sums of ``window`` samples ``stride`` apart, from each on, doubled up: 5 are 1 and 4, 4 are 2 and 2."""
    count = len(samples) - (window - 1) * stride
    total, done = None, 0
    for bit in range(window.bit_length()):
        span = 1 << bit
        if window & span:
            piece = samples[done * stride :][:count]
            total = piece if total is None else total + piece
            done += span
        if done < window:
            samples = samples[: -span * stride] + samples[span * stride :]
    assert total is not None  # a window is not empty
    return total
