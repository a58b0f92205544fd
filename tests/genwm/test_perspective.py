"""A picture in perspective: its outline is seen in the evidence, without a key, and is made straight."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from genwm.lattice.evidence import Accumulator, Evidence
from genwm.lattice.perspective import homography, outline, straightened
from genwm.scenes import scene
from genwm.video import Planes
from tests.clips import Frames, projected

WIDTH, HEIGHT = 640, 360
SLANTED = {
    "all four": [(60, 20), (600, 5), (520, 300), (30, 340)],
    "one side": [(0, 0), (640, 40), (640, 320), (0, 360)],
    "small": [(200, 60), (500, 100), (460, 280), (180, 250)],
    "turned": [(160, 40), (560, 110), (500, 330), (100, 260)],
}


def evidence_of(frames: Frames) -> Evidence:
    collected = Accumulator()
    for index, frame in enumerate(frames):
        y, u, v = (np.asarray(band) for band in Image.fromarray(frame).convert("YCbCr").split())
        collected.add(Planes(y=y, u=u[::2, ::2], v=v[::2, ::2], time_s=index / 25, index=index, full_range=True))
    (evidence,) = collected.take()
    return evidence


@pytest.fixture(scope="module")
def clip() -> Frames:
    return scene(WIDTH, HEIGHT, 6)


def test_a_homography_takes_points_to_points() -> None:
    source = [(0.0, 0.0), (100.0, 0.0), (100.0, 50.0), (0.0, 50.0)]
    target = [(10.0, 5.0), (90.0, 0.0), (95.0, 45.0), (3.0, 50.0)]
    a, b, c, d, e, f, g, h = homography(source, target)
    for (x, y), wanted in zip(source, target, strict=True):
        w = g * x + h * y + 1
        assert ((a * x + b * y + c) / w, (d * x + e * y + f) / w) == pytest.approx(wanted)


@pytest.mark.parametrize("ground", [0, 128, 255])
@pytest.mark.parametrize("name", SLANTED)
def test_corners_are_found_to_a_pixel(clip: Frames, name: str, ground: int) -> None:
    found = outline(evidence_of(projected(clip, SLANTED[name], ground)))
    assert found is not None
    np.testing.assert_allclose(np.array(found) * (WIDTH, HEIGHT), SLANTED[name], atol=1.5)


def test_what_is_made_straight_is_what_was_there_before(clip: Frames) -> None:
    before = evidence_of(clip)
    after = straightened(evidence_of(projected(clip, SLANTED["all four"])),
                         [(x / WIDTH, y / HEIGHT) for x, y in SLANTED["all four"]])  # fmt: skip
    for one, other in zip(before.planes, after.planes, strict=True):
        assert one.shape == other.shape
        inner = (slice(20, -20), slice(20, -20))
        assert np.corrcoef(one[inner].ravel(), other[inner].ravel())[0, 1] > 0.5
        assert not other[:3].any()  # sides are edges of the picture, and no evidence
        assert not other[:, -3:].any()


def letterboxed(frames: Frames) -> Frames:
    boxed = np.zeros_like(frames)
    boxed[:, 60:300] = frames[:, 60:300]
    return boxed


def spun(frames: Frames) -> Frames:
    return np.stack([np.asarray(Image.fromarray(frame).rotate(10, Image.Resampling.BICUBIC)) for frame in frames])


def under_a_sky(frames: Frames) -> Frames:
    """Flat above a slope from the left side to the right one."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.where((rows > 80 + columns / 5)[:, :, None], frames, 200).astype(np.uint8)


@pytest.mark.parametrize("edit", [lambda frames: frames, letterboxed, spun, under_a_sky, np.zeros_like,
                                  lambda frames: frames[:, :48, :60]])  # fmt: skip
def test_no_outline_is_seen_where_no_picture_stands_in_perspective(
    clip: Frames, edit: Callable[[Frames], Frames]
) -> None:
    assert outline(evidence_of(edit(clip))) is None


def test_noise_alone_has_no_outline() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, HEIGHT, WIDTH, 3), dtype=np.uint8)
    assert outline(evidence_of(noise)) is None
    disc = (np.hypot(*np.mgrid[-180:180, -320:320]) < 150)[:, :, None] * noise
    assert outline(evidence_of(disc)) is None
