"""What is written: the lattice of frequencies, its bands, and the tile that a key and a payload make of them.

The tile is a real, periodic image of ``TILE`` x ``TILE`` canonical pixels, one for luma and one for each colour
difference, repeated over the picture on a grid in which the picture's short side is ``SHORT_SIDE``. Its spectrum lives
on the lattice k / TILE. Each coefficient has a fixed amplitude and two keyed signs (real and imaginary part), so
everything secret is a sequence of fair bits: pilot coefficients carry signs that the key alone decides, the others
carry payload chips times a keyed scramble.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from genwm import payload as code
from genwm.keys import Key

TILE = 192
SHORT_SIDE = 512
PLANES = ("y", "u", "v")
_COLUMNS_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class Band:
    """A ring of frequencies ``low <= |f| < high`` (cycles per canonical pixel) of one plane.

    ``rms`` is its amplitude in 8-bit levels before mask and strength; ``pilot`` the share of its coefficients that
    synchronise instead of carrying payload; ``density`` the share of the ring's lattice points that are used at all
    (fewer, stronger lines cost less to read).
    """

    plane: int
    low: float
    high: float
    rms: float
    pilot: float
    density: float = 1.0


# Fitted to what survives CRF 30-40, half size and AV1 at a fixed ColorVideoVDP quality: docs/watermark.md.
BANDS = (
    Band(0, 0.050, 0.100, 0.28, 0.5),
    Band(0, 0.110, 0.160, 0.34, 0.5),
    Band(0, 0.180, 0.360, 0.36, 0.0, density=0.3),
    Band(1, 0.020, 0.080, 1.94, 0.55),
    Band(2, 0.020, 0.080, 1.94, 0.55),
)


@dataclass(frozen=True, slots=True)
class Layout:
    """The key-independent part of the pattern, one entry a coefficient (upper half plane only, n in all).

    Attributes:
        kx, ky: int64 ``(n,)``, lattice indices: frequency k / TILE in cycles per canonical pixel, x to the right and y
            down.
        plane, band: int64 ``(n,)``, indices into ``PLANES`` and ``BANDS``.
        amplitude: float64 ``(n,)``, magnitude of the coefficient such that its plane's tile, the sum over the
            coefficients of 2 Re(amplitude x sign x exp(2 pi i k x / TILE)), has the bands' rms.
        weight: float64 ``(n,)``, what a reader gives the coefficient in a correlation before it knows anything of the
            copy: the amplitude times what compression leaves of it.
        pilot: bool ``(n,)``, whether the coefficient synchronises.
        chip: int64 ``(n, 2)``, for payload coefficients the chip of the codeword that its real and imaginary part
            carry, -1 for pilots.
    """

    kx: NDArray[np.int64]
    ky: NDArray[np.int64]
    plane: NDArray[np.int64]
    band: NDArray[np.int64]
    amplitude: NDArray[np.float64]
    weight: NDArray[np.float64]
    pilot: NDArray[np.bool_]
    chip: NDArray[np.int64]


def _public_order(label: str, n: int) -> NDArray[np.int64]:
    """A fixed shuffle of ``range(n)`` that needs no key: the order of n 64-bit words of SHAKE-256."""
    stream = hashlib.shake_256(b"genwm-layout-1/" + label.encode()).digest(8 * n)
    return np.argsort(np.frombuffer(stream, dtype="<u8"), kind="stable").astype(np.int64)


@lru_cache(maxsize=1)
def layout() -> Layout:
    """The layout of version 1; computed once."""
    half = TILE // 2
    grid = [(x, y) for y in range(half) for x in range(-half + 1, half) if y > 0 or x > 0]
    index = np.array(grid, dtype=np.int64)
    radius2 = (index**2).sum(axis=1)
    columns: list[tuple[NDArray[np.int64], NDArray[np.int64], int, float, NDArray[np.bool_]]] = []
    for number, band in enumerate(BANDS):
        # Squares of rationals with a small denominator: exact, so no machine draws a coefficient in or out.
        low2, high2 = (round(edge * 1000) ** 2 * TILE**2 for edge in (band.low, band.high))
        ring = index[(radius2 * 1000**2 >= low2) & (radius2 * 1000**2 < high2)]
        ring = ring[_public_order(f"ring/{number}", len(ring))][: round(band.density * len(ring))]
        pilots = np.arange(len(ring)) < round(band.pilot * len(ring))
        columns.append((ring[:, 0], ring[:, 1], number, band.rms / np.sqrt(2 * len(ring)), pilots))
    kx = np.concatenate([column[0] for column in columns])
    ky = np.concatenate([column[1] for column in columns])
    band_of = np.concatenate([np.full(len(column[0]), column[2], dtype=np.int64) for column in columns])
    pilot = np.concatenate([column[4] for column in columns])
    # Chips are dealt in turn to the steps of the code's trellis, band after band, so that every payload bit gets its
    # share of each plane and a grey copy or a low-pass costs all of them the same.
    chip = np.full((len(kx), 2), -1, dtype=np.int64)
    dealt = np.arange(2 * int((~pilot).sum())) % code.CHIPS
    chip[~pilot] = ((dealt % code.STEPS) * code.RATE + dealt // code.STEPS).reshape(-1, 2)
    plane = np.array([BANDS[number].plane for number in band_of], dtype=np.int64)
    amplitude = np.concatenate([np.full(len(column[0]), column[3]) for column in columns])
    return Layout(
        kx=kx,
        ky=ky,
        plane=plane,
        band=band_of,
        amplitude=amplitude,
        weight=amplitude * _survival(plane, np.hypot(kx, ky) / TILE),
        pilot=pilot,
        chip=chip,
    )


def _survival(plane: NDArray[np.int64], cycles: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a compressed copy keeps of a coefficient over the noise there, up to a factor; ``cycles`` a canonical pixel.

    Fitted to H.264 and H.265 at CRF 40, cropped and at half size: docs/watermark.md.
    """
    return np.where(plane == 0, 2.5 / np.maximum(cycles / 0.16, 1), 1 / np.sqrt(cycles / 0.04))


def pilot_signs(key: Key) -> NDArray[np.complex128]:
    """Keyed signs of the pilot coefficients: complex ``(pilots,)``, each (+-1 +-i) / sqrt 2, in layout order."""
    return _quadrature(key.chips("pilot", 2 * int(layout().pilot.sum())))


def scramble(key: Key) -> NDArray[np.int8]:
    """Keyed signs that the payload chips are multiplied with: int8 ``(payload coefficients, 2)`` of +-1."""
    return key.chips("scramble", 2 * int((~layout().pilot).sum())).reshape(-1, 2)


def signs(key: Key, payload: int) -> NDArray[np.complex128]:
    """Signs of all coefficients of a mark: complex ``(n,)``, each (+-1 +-i) / sqrt 2, in layout order."""
    plan = layout()
    values = np.empty(len(plan.kx), dtype=np.complex128)
    values[plan.pilot] = pilot_signs(key)
    values[~plan.pilot] = _quadrature((code.encode(payload)[plan.chip[~plan.pilot]] * scramble(key)).ravel())
    return values


def _quadrature(chips: NDArray[np.int8]) -> NDArray[np.complex128]:
    pairs = chips.reshape(-1, 2).astype(np.float64) * np.sqrt(0.5)
    return np.asarray(pairs[:, 0] + 1j * pairs[:, 1], dtype=np.complex128)


def waves(key: Key, payload: int, *, planes: tuple[float, float, float] = (1.0, 1.0, 1.0), highest: float = 0.5
          ) -> NDArray[np.complex128]:
    """The coefficients of a mark: complex ``(n,)`` in layout order, of which a tile is the sum of 2 Re(coefficient x
    exp(2 pi i k x / TILE)). ``planes`` scales each plane's. Frequencies above ``highest`` (cycles per canonical pixel)
    are 0: a small picture cannot hold them.
    """
    plan = layout()
    values = plan.amplitude * signs(key, payload) * np.asarray(planes)[plan.plane]
    return np.asarray(values * (np.hypot(plan.kx, plan.ky) <= highest * TILE))


def tiles(key: Key, payload: int, *, oversampling: int = 1, planes: tuple[float, float, float] = (1.0, 1.0, 1.0),
          highest: float = 0.5) -> NDArray[np.float32]:
    """The three tiles of a mark: float32 ``(3, TILE x oversampling, TILE x oversampling)`` in 8-bit levels.

    Order Y, U, V (blue and red difference), sampled at canonical positions j / oversampling. ``planes`` and ``highest``
    as of ``waves``.
    """
    plan = layout()
    size = TILE * oversampling
    spectrum = np.zeros((3, size, size), dtype=np.complex128)
    values = waves(key, payload, planes=planes, highest=highest)
    np.add.at(spectrum, (plan.plane, plan.ky % size, plan.kx % size), values)
    np.add.at(spectrum, (plan.plane, -plan.ky % size, -plan.kx % size), values.conj())
    return np.asarray(np.fft.ifft2(spectrum, norm="forward").real, dtype=np.float32)


def canonical_size(width: float, height: float) -> tuple[float, float]:
    """Width and height of a picture on the canonical grid, in canonical pixels: its short side is ``SHORT_SIDE``."""
    short = min(width, height)
    return width * SHORT_SIDE / short, height * SHORT_SIDE / short


def pattern(
    tile: NDArray[np.float32],
    rows: int,
    columns: int,
    *,
    canonical: tuple[float, float],
) -> NDArray[np.float32]:
    """A tile laid over a plane: float32 ``(rows, columns)``.

    Args:
        tile: float32 ``(m, m)``, one period, oversampled by m / TILE.
        canonical: width and height of the whole plane in canonical pixels.
    """
    oversampling = tile.shape[0] // TILE

    def taps(count: int, length: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        position = (np.arange(count) + 0.5) * (length / count) * oversampling
        low = np.floor(position).astype(np.int64)
        size = tile.shape[0]
        return low % size, (low + 1) % size, (position - low).astype(np.float32)

    y0, y1, fy = taps(rows, canonical[1])
    x0, x1, fx = taps(columns, canonical[0])
    # Separable linear interpolation: along x on the few rows of the tile, then along y.
    wide = tile[:, x0] * (1 - fx) + tile[:, x1] * fx
    return np.asarray(wide[y0] * (1 - fy[:, None]) + wide[y1] * fy[:, None], dtype=np.float32)


def laid(values: NDArray[np.complex128], plane: int, rows: int, columns: int, *, canonical: tuple[float, float],
         oversampling: int) -> NDArray[np.float32]:
    """What ``pattern`` makes of one of the ``tiles``, up to rounding, without making the tile: float32
    ``(rows, columns)``.

    Interpolation is separable and so is each wave: the interpolated waves of y, times the coefficients, times those of
    x. Two matrix products in a quarter of the time and a tenth of the memory.

    Args:
        values: of ``waves``.
        plane: 0, 1 or 2 for Y, U, V.
        canonical, oversampling: as of ``pattern`` and ``tiles``.
    """
    plan = layout()
    mine = plan.plane == plane
    kx, ky = plan.kx[mine], plan.ky[mine]
    reach_x, reach_y = (int(np.abs(k).max(initial=0)) for k in (kx, ky))
    spectrum = np.zeros((reach_y + 1, 2 * reach_x + 1), np.complex64)  # of ky >= 0: the other half is conjugate
    spectrum[ky, kx + reach_x] = 2 * values[mine]
    size = TILE * oversampling
    circle = np.exp(2j * np.pi / size * np.arange(size)).astype(np.complex64)

    def interpolated(k: NDArray[np.int64], place: NDArray[np.int64], length: float, count: int
                     ) -> NDArray[np.complex64]:
        position = (place + 0.5) * (length / count) * oversampling
        low = np.floor(position).astype(np.int64)
        share = (position - low).astype(np.float32)
        return np.asarray(circle[k * low % size] * (1 - share) + circle[k * (low + 1) % size] * share)

    down = interpolated(np.arange(reach_y + 1), np.arange(rows)[:, None], canonical[1], rows)
    down_parts = np.concatenate([down.real, -down.imag], axis=1)
    image = np.empty((rows, columns), np.float32)
    for start in range(0, columns, _COLUMNS_AT_ONCE):
        place = np.arange(start, min(start + _COLUMNS_AT_ONCE, columns))
        across = spectrum @ interpolated(np.arange(-reach_x, reach_x + 1)[:, None], place, canonical[0], columns)
        np.matmul(down_parts, np.concatenate([across.real, across.imag]), out=image[:, place[0] : place[-1] + 1])
    return image
