"""Channel features of a segment: measured in tiles of one size, so that how large a picture is tells nothing."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.synthetic.canonical import FRAMES, SMALL, TILE, Segment, Stack, planes_of
from detectors.synthetic.features import Networks, segment_features
from detectors.synthetic.model import load_model
from genwm.scenes import scene

CHANNELS = ("spectrum", "motion", "texture")


@pytest.fixture(scope="module")
def networks() -> Networks:
    return load_model(threads=1).networks


def segment(crop: Stack) -> Segment:
    return Segment(start_s=0.0, stop_s=1.5, crop=crop, small=crop.scaled(SMALL, SMALL), origin=(0, 0),
                   size=crop.y.shape[1:])  # fmt: skip


def tile() -> Stack:
    return Stack.of([planes_of(picture) for picture in scene(TILE, TILE, FRAMES, 3)])


def repeated(stack: Stack, rows: int, columns: int) -> Stack:
    return Stack(*(np.tile(plane, (1, rows, columns)) for plane in (stack.y, stack.u, stack.v)))


def test_a_larger_picture_of_the_same_has_the_same_features(networks: Networks) -> None:
    one = segment_features(segment(tile()), networks, CHANNELS)[0]
    four = segment_features(segment(repeated(tile(), 2, 2)), networks, CHANNELS)[0]
    for name in CHANNELS:
        difference = np.abs(one[name] - four[name])
        assert np.median(difference) < 0.05 * np.abs(one[name]).mean(), name
        assert np.corrcoef(one[name], four[name])[0, 1] > 0.98, name


def test_all_parts_of_the_crop_count(networks: Networks) -> None:
    plain = tile()
    grey = Stack(np.full_like(plain.y, 126), np.full_like(plain.u, 128), np.full_like(plain.v, 128))
    beside = Stack(*(np.concatenate(planes, axis=2) for planes in
                     ((plain.y, grey.y), (plain.u, grey.u), (plain.v, grey.v))))  # fmt: skip
    left, right, both = (segment_features(segment(crop), networks, ["texture"])[0]["texture"]
                         for crop in (plain, grey, beside))  # fmt: skip
    expected = (left + right) / 2
    assert np.corrcoef(both, expected)[0, 1] > 0.99
    assert np.abs(both - expected).mean() < 0.2 * np.abs(left - right).mean()


def test_the_canonical_form_is_what_was_measured(networks: Networks) -> None:
    crop = repeated(tile(), 1, 2)
    found, form = segment_features(segment(crop), networks, ["motion"])
    assert set(found) == {"motion"}
    assert form.crop.y.shape == crop.y.shape
    assert form.encoded_bytes > 0
    assert 0 < np.abs(form.crop.y.astype(int) - crop.y).mean() < 10
