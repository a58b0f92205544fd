"""ColorVideoVDP: what the package itself says."""

from __future__ import annotations

import subprocess
import sys

import pytest

from eval.quality import DISPLAYS, jod
from genwm.errors import InputError
from tests.clips import Frames, scene
from tests.eval.noise import noisy


@pytest.fixture(scope="module")
def rgb() -> Frames:
    return scene(192, 160, 6)


@pytest.fixture(scope="module")
def cvvdp() -> object:
    return pytest.importorskip("pycvvdp", reason="ColorVideoVDP is not tested: it needs the extra 'quality'")


@pytest.mark.usefixtures("cvvdp")
def test_jod_is_ten_for_identical_frames_and_falls_with_noise(rgb: Frames) -> None:
    few = rgb[:2, :96, :128]
    same, little, much = (jod(few, noisy(few, sigma), fps=24) for sigma in (0, 3, 12))
    for display in DISPLAYS:
        assert same[display] == 10
        assert 10 > little[display] > much[display]
    assert little["standard_fhd"] < little["standard_4k"], "larger pixels show more"


@pytest.mark.parametrize(("width", "height", "frames"), [(128, 96, 3), (131, 97, 2), (520, 514, 1)])
def test_jod_is_what_the_package_says(cvvdp: object, width: int, height: int, frames: int) -> None:
    import torch

    one = scene(width, height, frames)
    other = noisy(one, 4)
    found = jod(one, other, fps=30)
    for display in DISPLAYS:
        metric = cvvdp.cvvdp(display_name=display, quiet=True, device=torch.device("cpu"))  # type: ignore[attr-defined]
        with torch.inference_mode():
            fps = 30 if frames > 1 else 0
            expected, _ = metric.predict(other, one, dim_order="FHWC", frames_per_second=fps)
        assert found[display] == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.usefixtures("cvvdp")
def test_the_two_displays_share_their_light() -> None:
    from eval.quality.colorvideovdp import _by_light, _cvvdp

    assert [len(group) for group in _by_light(_cvvdp(display, "cpu") for display in DISPLAYS)] == [2]
    mixed = ("standard_fhd", "standard_phone", "standard_4k")
    assert sorted(len(group) for group in _by_light(_cvvdp(display, "cpu") for display in mixed)) == [1, 2]


@pytest.mark.usefixtures("cvvdp")
def test_jod_refuses_what_it_cannot_judge(rgb: Frames) -> None:
    with pytest.raises(InputError, match="frame rate"):
        jod(rgb, rgb, fps=0)
    with pytest.raises(InputError, match="16 x 16"):
        jod(rgb[:, :8], rgb[:, :8], fps=24)
    with pytest.raises(InputError, match="display"):
        jod(rgb, rgb, fps=24, displays=("no_such_display",))


@pytest.mark.usefixtures("cvvdp")
def test_jod_says_nothing_on_the_side() -> None:
    code = "import numpy as np; from eval.quality import jod; f = np.zeros((2, 32, 32, 3), np.uint8); jod(f, f, fps=9)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
