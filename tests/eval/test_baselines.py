"""Other people's watermarks: what goes in comes out, and what they cannot take is refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from eval import baselines as baselines_module
from eval.baselines import BASELINES, baseline, vote
from eval.quality import psnr
from genwm.errors import InputError, MissingExtraError, PayloadError
from tests.clips import scene

BITS = np.random.default_rng(0).integers(0, 2, 32, dtype=np.uint8)


@pytest.fixture
def installed() -> None:
    for module in ("imwatermark", "onnxruntime"):
        pytest.importorskip(module, exc_type=ImportError,
                            reason="dwtDct, dwtDctSvd and rivaGan are not tested: they need 'baselines', and libGL")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("name", "least"), [("dwtDct", 0.85), ("dwtDctSvd", 1.0), ("rivaGan", 1.0)])
def test_bits_come_back(name: str, least: float) -> None:
    frames = scene(288, 256, 2)
    before = frames.copy()
    marked = baseline(name).embed(frames, BITS)
    np.testing.assert_array_equal(frames, before)
    assert marked.shape == frames.shape
    assert marked.dtype == np.uint8
    assert 36 < psnr(frames, marked) < 46
    read = baseline(name).extract(marked, 32)
    assert read.shape == (2, 32)
    assert (vote(read) == BITS).mean() >= least
    assert (vote(baseline(name).extract(frames, 32)) == BITS).mean() < least, "nothing comes out of unmarked frames"


@pytest.mark.usefixtures("installed")
def test_colour_order_is_rgb() -> None:
    """dwtDctSvd writes in U, which is mostly blue: in the wrong order it would change red most."""
    frames = scene(288, 256, 1)
    change = np.abs(baseline("dwtDctSvd").embed(frames, BITS).astype(int) - frames).mean(axis=(0, 1, 2))
    assert change[2] > 2 * change[0]


@pytest.mark.usefixtures("installed")
def test_odd_sizes_keep_their_shape() -> None:
    frames = scene(291, 257, 1)
    for method in BASELINES.values():
        assert method.embed(frames, BITS).shape == frames.shape


def test_messages_of_the_wrong_length_or_kind_are_refused() -> None:
    frames = scene(288, 256, 1)
    with pytest.raises(PayloadError, match="exactly 32 bits for rivaGan, got 16"):
        baseline("rivaGan").embed(frames, BITS[:16])
    with pytest.raises(PayloadError, match="0 and 1"):
        baseline("dwtDct").embed(frames, [2] * 32)
    with pytest.raises(PayloadError, match="up to 128 bits"):
        baseline("dwtDct").embed(frames, [])


@pytest.mark.usefixtures("installed")
def test_frames_that_they_cannot_take_are_refused() -> None:
    with pytest.raises(InputError, match="65536 pixels"):
        baseline("dwtDctSvd").embed(scene(64, 64, 1), BITS)
    with pytest.raises(InputError, match="RGB frames"):
        baseline("dwtDctSvd").extract(scene(288, 256, 1)[0], 32)


def test_an_unknown_method_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="dwtDct, dwtDctSvd, rivaGan"):
        baseline("other")


def test_vote_is_the_majority() -> None:
    assert vote(np.array([[1, 0, 1], [1, 0, 0], [0, 0, 1], [0, 1, 1]], np.uint8)).tolist() == [1, 0, 1]


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    baselines_module._package.cache_clear()
    monkeypatch.setitem(sys.modules, "imwatermark", None)
    with pytest.raises(MissingExtraError, match=r"genwm\[baselines\]"):
        baseline("dwtDct").embed(scene(288, 256, 1), BITS)
