"""Blind search: which crop, scale, rotation, flip or squeeze of the lattice does the evidence hold, and for which key?

Hypotheses come in families (``decision.SHARES``), from the likeliest to the rarest; each is a matrix (see
``spectrum``), and the height of the highest peak of its correlation surface (see ``pilots``) is the statistic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from genwm.lattice import tile
from genwm.lattice.comb import ranked
from genwm.lattice.decision import HINT_LOG10_P, Family
from genwm.lattice.perspective import Outline
from genwm.lattice.pilots import (
    GRID,
    correlate_at,
    correlate_on_grid,
    in_step,
    independent_shifts,
    sample_pilots,
    sign_pilots,
    spread,
    surfaces,
    turned,
)
from genwm.lattice.spectrum import Spectrum

#: Relative step between hypotheses of scale, rotation or stretch, times the picture's radius in nominal pixels (root
#: mean square distance from its centre): half of it turns the colours' pilots there by .2 radian, the highest by .6.
STEP = 1.2
MIN_SCALE, MAX_SCALE = 0.3, 3.7
MAX_ROTATION = math.radians(12)
MIN_ASPECT, MAX_ASPECT = 0.68, 1.47
#: Short sides that cameras, platforms and generators give their pictures, in pixels.
USUAL_LINES = (
    240, 256, 288, 320, 360, 384, 432, 448, 480, 512, 540, 544, 576, 600, 640, 704, 720, 768, 800, 832, 960, 1024, 1080,
    1152, 1280, 1440, 1536, 1600, 2048, 2160,
)  # fmt: skip
#: Those of them that platforms stream.
LADDER = frozenset({240, 360, 480, 720, 1080, 1440, 2160})
#: More than the correlation can gain when scale, rotation and stretch are refined, half a step at most from the truth.
REFINABLE = 1.25
_CHUNK = 32
_FLIPS = (np.diag([1.0, 1.0]), np.diag([-1.0, 1.0]), np.diag([1.0, -1.0]), np.diag([-1.0, -1.0]))
#: Scale, aspect and rotation: what a refined geometry may change by, to first order.
_FREE = (np.eye(2), np.diag([1.0, -1.0]), np.array([[0.0, -1.0], [1.0, 0.0]]))
#: Negatives are looked for upright and mirrored: the first of the flips.
_NEGATIVES = 2
_QUARTERS = (np.array([[0.0, -1.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [-1.0, 0.0]]))
#: Weights of what a picture's planes hold: of all as they were marked; of luma alone, where colours were turned or
#: taken away; of all the other way round, where the picture is a negative.
ALL_PLANES, LUMA, NEGATIVE = (1.0, 1.0, 1.0), (1.0, 0.0, 0.0), (-1.0, -1.0, -1.0)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place where the mark may be.

    Attributes:
        key: index into the keys that were tried.
        matrix: float64 ``(2, 2)``, canonical from nominal coordinates.
        shift: canonical coordinates of the picture's centre, modulo the tile: (x, y) in canonical pixels.
        z: self-normalised correlation of the pilots.
        family: the hypotheses it is the best of.
        planes: weights of luma and the two colour planes: `ALL_PLANES`, `LUMA` or `NEGATIVE`.
        corners: of the picture in the frame, if it was made straight first (see ``perspective``).
    """

    key: int
    matrix: NDArray[np.float64]
    shift: tuple[float, float]
    z: float
    family: Family
    planes: tuple[float, float, float] = ALL_PLANES
    corners: Outline | None = None

    @property
    def log10_p(self) -> float:
        """Corrected p-value of this candidate within one key."""
        return self.family.log10_p(self.z)

    @property
    def supposed(self) -> float:
        """How much it supposes: hypotheses of its family, twice as many where the colours are thought to be lost."""
        return self.family.hypotheses * (2 if self.planes == LUMA else 1)


def _step(spectrum: Spectrum) -> float:
    return STEP / math.sqrt((spectrum.width**2 + spectrum.height**2) / 12)


def scales(spectrum: Spectrum, low: float = MIN_SCALE, high: float = MAX_SCALE) -> NDArray[np.float64]:
    """Scales to try, ``STEP`` apart.

    Below 1 the picture fills only that part of the frame, so the tolerance stays; above, the crop shows fewer tiles and
    tolerates more.
    """
    step = _step(spectrum)
    values = [1.0]
    while values[-1] < high:
        values.append(values[-1] * (1 + step * values[-1]))
    below = [1.0]
    while below[-1] > low:
        below.append(below[-1] / (1 + step))
    return np.array([value for value in [*below[:0:-1], *values] if low <= value <= high])


def _diagonal(sx: NDArray[np.float64], sy: NDArray[np.float64]) -> NDArray[np.float64]:
    matrices = np.zeros((len(sx), 2, 2))
    matrices[:, 0, 0], matrices[:, 1, 1] = sx, sy
    return matrices


def uncropped(spectrum: Spectrum, signs: Sequence[NDArray[np.complex128]], *, squeezes: bool = True
              ) -> list[Candidate]:
    """Whole pictures: unchanged, flipped, on their side, negative, resized, in other colours, slightly cut at the edges
    or, if asked, squeezed. Best of each family and key.

    The place of the grid is known, so few hypotheses are tried. Where hues were turned or channels swapped, what the
    colour planes hold is no more than strong noise to the sum of all planes, so luma is tried alone as well.
    """
    found: list[Candidate] = []
    centre = np.array([[spectrum.width / 2, spectrum.height / 2]])
    # A picture on its side has its own frame, or still the one that it had upright.
    turns = [*((flip, centre[0]) for flip in _FLIPS),
             *((quarter, middle) for quarter in _QUARTERS for middle in (centre[0, ::-1], centre[0]))]
    family = {"unchanged": Family("unchanged", 1), "flipped": Family("flipped", len(turns) - 1 + _NEGATIVES),
              "recoloured": Family("recoloured", len(turns))}  # fmt: skip
    offsets = np.stack(np.meshgrid(np.arange(-3, 3.1), np.arange(-3, 3.1)), axis=-1).reshape(-1, 2)
    near_scales = np.array([0.9955, 0.997, 0.9985, 1.0, 1.0015, 1.003, 1.0045])
    near = np.concatenate([_diagonal(near_scales, near_scales) @ flip for flip in _FLIPS])
    near_family = Family("near", len(near) * len(offsets))
    ratios = np.exp(np.arange(math.log(MIN_ASPECT), math.log(MAX_ASPECT), 0.0022)) if squeezes else np.empty(0)
    shape = spectrum.width / spectrum.height
    sizes = np.array([tile.canonical_size(shape * ratio, 1.0) for ratio in ratios]).reshape(-1, 2)
    squeezed = np.concatenate(
        [_diagonal(sizes[:, 0] / spectrum.width, sizes[:, 1] / spectrum.height) @ flip for flip in _FLIPS[:2]]
    )
    centres = np.concatenate([sizes, sizes]) / 2
    aspect_family = Family("aspect", len(squeezed))

    whole = sample_pilots(spectrum, np.stack([matrix for matrix, _ in turns]), exact=True)
    around = sample_pilots(spectrum, near, exact=True)
    stretched = sample_pilots(spectrum, squeezed, exact=True)
    deviations = spread(whole), spread(around), spread(stretched)
    luma_deviation = spread(whole[:1])
    whole = turned(whole, np.stack([middle for _, middle in turns]))
    stretched = turned(stretched, centres)
    for number, sign in enumerate(signs):
        best: dict[str, Candidate] = {}

        def offer(candidate: Candidate, best: dict[str, Candidate] = best) -> None:
            held = best.get(candidate.family.name)
            if held is None or candidate.z > held.z:
                best[candidate.family.name] = candidate

        heights = in_step(whole, sign) / deviations[0]
        for turn, (matrix, middle) in enumerate(turns):
            name = "flipped" if turn else "unchanged"
            offer(Candidate(number, matrix, _wrapped(middle), float(heights[turn]), family[name]))
            if turn < _NEGATIVES:
                offer(Candidate(number, matrix, _wrapped(middle), -float(heights[turn]), family["flipped"],
                                planes=NEGATIVE))
        heights = in_step(whole[:1], sign) / luma_deviation
        turn = int(np.argmax(heights))
        matrix, middle = turns[turn]
        offer(Candidate(number, matrix, _wrapped(middle), float(heights[turn]), family["recoloured"], planes=LUMA))
        heights = correlate_at(sign_pilots(around, sign), centre + offsets) / deviations[1][:, None]
        turn, place = divmod(int(np.argmax(heights)), heights.shape[1])
        shift = _wrapped((centre + offsets)[place])
        offer(Candidate(number, near[turn], shift, float(heights[turn, place]), near_family))
        if squeezes:
            heights = in_step(stretched, sign) / deviations[2]
            turn = int(np.argmax(heights))
            offer(Candidate(number, squeezed[turn], _wrapped(centres[turn]), float(heights[turn]), aspect_family))
        found.extend(best.values())
    return found


def cut(spectrum: Spectrum, signs: Sequence[NDArray[np.complex128]], size: tuple[int, int]) -> list[Candidate]:
    """Crops of pictures of usual sizes that kept their pixels: the best a key, and its neighbours at whole pixels.

    The scale is then one of a few, so that a crop is found at a lower correlation than among all scales. At the right
    whole pixel none of the payload is lost to noise that the climb to the peak followed.

    Args:
        spectrum: of the picture's evidence.
        signs: pilot signs of each key.
        size: width and height of the picture in pixels, as displayed.
    """
    short = min(size)
    lines = {line for line in (max(size), *USUAL_LINES) if short <= line <= short * MAX_SCALE}
    found: list[Candidate] = []
    # The commonest sizes have a share of the error budget of their own.
    for name, some in (("cut", lines & LADDER), ("odd_cut", (lines | {short}) - LADDER)):
        if some:
            factors = short / np.array(sorted(some))
            matrices = _diagonal(factors, factors)
            family = Family(name, len(matrices) * independent_shifts())
            found += _best_of(spectrum, signs, matrices, family, free=(), keep=1, workers=1, exact=True)
    return [*found, *(item for best in found for item in _at_whole_pixels(spectrum, best, signs[best.key], size))]


def _at_whole_pixels(spectrum: Spectrum, best: Candidate, signs: NDArray[np.complex128], size: tuple[int, int]
                     ) -> list[Candidate]:
    """A straight candidate and its neighbours at which the picture was cut between pixels; none where the tile is no
    whole number of pixels, for then any place can be one."""
    pixel = abs(best.matrix[0, 0]) * tile.SHORT_SIDE / min(size)
    period = tile.TILE / pixel
    if abs(period - round(period)) > 1e-6:
        return []
    steps = np.arange(-2, 3)
    xs, ys = ((np.rint(middle / pixel - length / 2) + steps + length / 2) * pixel
              for middle, length in zip(best.shift, size, strict=True))
    samples = sample_pilots(spectrum, best.matrix[None], exact=True)
    heights = correlate_on_grid(sign_pilots(samples, signs), xs, ys)[0] / spread(samples)
    return [replace(best, shift=_wrapped(np.array([xs[x], ys[y]])), z=float(height))
            for (y, x), height in np.ndenumerate(heights)]


def cropped(spectrum: Spectrum, signs: Sequence[NDArray[np.complex128]], size: tuple[int, int] | None = None, *,
            keep: int = 3, workers: int = 2) -> list[Candidate]:
    """Any crop at any scale, straight or mirrored left to right: the ``keep`` best a key, refined; and, if ``size`` is
    known, width and height in pixels, the best of them as a cut that kept its pixels."""
    factors = 1 / scales(spectrum)
    upright = _diagonal(factors, factors)
    matrices = np.concatenate([upright, upright @ _FLIPS[1]])
    family = Family("scale", len(matrices) * independent_shifts())
    found = _best_of(spectrum, signs, matrices, family, free=_FREE[:1], keep=keep, workers=workers)
    if size is None:
        return found
    best = {item.key: item for item in sorted(found, key=lambda item: item.z)}.values()
    cuts = [cut for candidate in best for cut in _as_cuts(spectrum, candidate, signs[candidate.key], size)]
    return [*found, *(item for cut in cuts for item in _at_whole_pixels(spectrum, cut, signs[cut.key], size))]


def _as_cuts(spectrum: Spectrum, best: Candidate, signs: NDArray[np.complex128], size: tuple[int, int]
             ) -> list[Candidate]:
    """A crop as cuts out of pictures whose lines are a multiple of 8, as those of most are: all that come within half
    a step of its scale, and the nearest."""
    lines = min(size) / abs(best.matrix[0, 0])
    reach = lines * _step(spectrum) / 2 / abs(best.matrix[0, 0])
    nearest = max(1, round(lines / 8))
    numbers = {nearest, *range(max(1, math.ceil((lines - reach) / 8)), math.floor((lines + reach) / 8) + 1)}
    return [refine(spectrum, replace(best, matrix=np.sign(best.matrix) * (min(size) / (8 * number)), z=-math.inf),
                   signs, ()) for number in sorted(numbers)]


def warped(spectrum: Spectrum, signs: Sequence[NDArray[np.complex128]], *, shortlist: int = 96, keep: int = 2,
           workers: int = 2) -> list[Candidate]:
    """Rotations and squeezes with any crop and scale, in four flips.

    Too many for a correlation each: a key-less pass ranks them by the power that stands on the lattice's lines, and
    only the ``shortlist`` is correlated and counted in the p-value.
    """
    upright = ranked(spectrum, _warps(spectrum), shortlist, reach=GRID // 2)
    # The set of lattice lines is its own mirror image, so the ranking holds for mirrored pictures as well: the mirror
    # of a turn by an angle is the opposite turn.
    mirrored = _FLIPS[1] @ upright
    both = np.concatenate([upright, mirrored])
    matrices = np.concatenate([both, -both])
    # The shortlist was made without a key, so only what is correlated with the key counts.
    family = Family("warp", len(matrices) * independent_shifts())
    return _best_of(spectrum, signs, matrices, family, free=_FREE, keep=keep, workers=workers)


def _warps(spectrum: Spectrum) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotations at scales of 0.7 to 2, and squeezes at scales of 0.8 to 1.6: float64 ``(scales, angles, 2, 2)`` and
    ``(scales, ratios, 2, 2)``."""
    step = _step(spectrum)
    values = scales(spectrum, 0.7, 2.0)
    angles = np.arange(step, MAX_ROTATION, step)
    angles = np.concatenate([-angles[::-1], angles])
    cos, sin = np.cos(angles), np.sin(angles)
    rotations = np.stack([np.stack([cos, -sin], axis=-1), np.stack([sin, cos], axis=-1)], axis=-2)
    rotated = rotations[None] / values[:, None, None, None]
    values = scales(spectrum, 0.8, 1.6)
    ratios = np.sqrt(np.exp(np.arange(math.log(MIN_ASPECT), math.log(MAX_ASPECT), step)))
    squeezed = _diagonal((ratios / values[:, None]).ravel(), (1 / ratios / values[:, None]).ravel())
    return rotated, squeezed.reshape(len(values), len(ratios), 2, 2)


def _best_of(
    spectrum: Spectrum,
    signs: Sequence[NDArray[np.complex128]],
    matrices: NDArray[np.float64],
    family: Family,
    *,
    free: Sequence[NDArray[np.float64]],
    keep: int,
    workers: int,
    exact: bool = False,
) -> list[Candidate]:
    """Correlates every hypothesis with every key and refines the ``keep`` best of each key, as far as it is ``free``.
    ``exact``: as of `sample_pilots`, for hypotheses that stand alone instead of close to one another."""

    def part(start: int) -> list[list[tuple[float, int, int]]]:
        samples = sample_pilots(spectrum, matrices[start : start + _CHUNK], exact=exact)
        deviation = spread(samples)
        peaks = []
        for sign in signs:
            heights = surfaces(sign_pilots(samples, sign)).reshape(len(deviation), -1)
            places = np.argmax(heights, axis=1)
            z = heights[np.arange(len(deviation)), places] / deviation
            peaks.append([(float(height), start + row, int(places[row])) for row, height in enumerate(z)])
        return peaks

    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(part, range(0, len(matrices), _CHUNK)))
    peaks = [[peak for peaks in parts for peak in peaks[number]] for number in range(len(signs))]
    found = []
    for number, sign in enumerate(signs):
        taken: list[NDArray[np.float64]] = []
        for z, row, place in sorted(peaks[number], reverse=True)[: 12 * keep]:
            # Neighbouring scales see the same peak; refine it once.
            if any(np.abs(matrices[row] - other).max() < 0.02 for other in taken):
                continue
            taken.append(matrices[row])
            y, x = divmod(place, GRID)
            start_at = Candidate(number, matrices[row], (x * tile.TILE / GRID, y * tile.TILE / GRID), z, family)
            found.append(refine(spectrum, start_at, sign, free))
            if len(taken) >= keep:
                break
    return found


def refine(spectrum: Spectrum, candidate: Candidate, signs: NDArray[np.complex128],
           free: Sequence[NDArray[np.float64]] = _FREE, *, rounds: int = 5) -> Candidate:
    """Climbs to the top of the peak in ever smaller steps: shift, and what is ``free`` of scale, aspect and rotation.

    What a hypothesis rules out is not refined: each freedom climbs the noise as well, which costs the payload more than
    a hundredth of a degree would.
    """
    step = 0.5 * _step(spectrum) / math.sqrt(abs(np.linalg.det(candidate.matrix)))
    reach = tile.TILE / GRID / 2
    best = _climb(spectrum, candidate, signs, [candidate.matrix], reach)
    if best.family.log10_p(best.z * REFINABLE) > HINT_LOG10_P:
        return best
    for _ in range(rounds):
        moves = [np.eye(2) + sign * step * move for move in free for sign in (-1, 1)] or [np.eye(2)]
        best = _climb(spectrum, best, signs, [move @ best.matrix for move in moves], reach)
        step, reach = step * 0.6, reach * 0.6
    return best


def _climb(spectrum: Spectrum, best: Candidate, signs: NDArray[np.complex128], matrices: Iterable[NDArray[np.float64]],
           reach: float) -> Candidate:
    options = np.stack(list(matrices))
    signed = sign_pilots(samples := sample_pilots(spectrum, options, exact=True), signs)
    deviation = spread(samples)
    grid = np.array([-1.0, -0.5, 0.0, 0.5, 1.0]) * reach
    xs, ys = best.shift[0] + grid, best.shift[1] + grid
    heights = correlate_on_grid(signed, xs, ys) / deviation[:, None, None]
    row, y, x = np.unravel_index(int(np.argmax(heights)), heights.shape)
    if heights[row, y, x] <= best.z:
        return best
    return replace(best, matrix=options[row], shift=_wrapped(np.array([xs[x], ys[y]])), z=float(heights[row, y, x]))


def _wrapped(shift: NDArray[np.float64]) -> tuple[float, float]:
    return float(shift[0] % tile.TILE), float(shift[1] % tile.TILE)


@dataclass(frozen=True, slots=True)
class Geometry:
    """What was done to the marked picture, as the grid shows it.

    Attributes:
        scale: size of the mark relative to that in an uncropped copy (a crop to 60 % a side shows 1.67).
        rotation: degrees clockwise, after the mirroring and the stretch.
        flip: mirrored left to right first.
        aspect: horizontal over vertical stretch.
    """

    scale: float
    rotation: float
    flip: bool
    aspect: float


def describe(matrix: NDArray[np.float64]) -> Geometry:
    """Scale, rotation, flip and aspect of a geometry matrix (canonical from nominal coordinates)."""
    inverse = np.linalg.inv(matrix)
    flip = bool(np.linalg.det(inverse) < 0)
    if flip:
        inverse = inverse @ np.diag([-1.0, 1.0])
    angle = math.atan2(inverse[1, 0] - inverse[0, 1], inverse[0, 0] + inverse[1, 1])
    cos, sin = math.cos(-angle), math.sin(-angle)
    straight = np.array([[cos, -sin], [sin, cos]]) @ inverse
    return Geometry(
        scale=math.sqrt(abs(float(np.linalg.det(inverse)))),
        rotation=math.degrees(angle),
        flip=flip,
        aspect=float(straight[0, 0] / straight[1, 1]),
    )
