"""Sizes and frame counts: what a pipeline would round is refused, and what is named instead comes out as asked.

The pipelines are small, with random weights; what they make is decoded by their own autoencoders.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from genwm import sizes  # noqa: E402
from genwm.errors import InputError, SizeError  # noqa: E402
from genwm.generation import Request, generate  # noqa: E402
from genwm.marking import Mark  # noqa: E402
from genwm.pipelines import FRAME_COUNTS, Loaded  # noqa: E402
from genwm.sizes import Steps  # noqa: E402
from tests.clips import KEY, PAYLOAD, make_clip  # noqa: E402
from tests.genwm.pipelines import families, folders  # noqa: E402
from tests.genwm.pipelines.coverage import frames_of  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers and transformers warn of their own plans
torch.set_num_threads(1)

MARK = Mark(KEY, PAYLOAD)


@pytest.mark.parametrize(
    ("steps", "value", "nearest"),
    [(Steps(64), 500, (448, 512)), (Steps(64), 10, (64,)), (Steps(64), 128, (128,)), (Steps(8, 1), 24, (17, 25)),
     (Steps(8, 1), 3, (1, 9)), (Steps(8, 1), 1, (1,)), (Steps(1), 7, (7,))],
)
def test_the_nearest(steps: Steps, value: int, nearest: tuple[int, ...]) -> None:
    assert steps.nearest(value) == nearest
    assert all(one in steps for one in nearest)
    assert (value in steps) == (nearest == (value,))


#: Family, and the smallest width and frame count above 64 and 8 that it would not make.
ROUNDED = [
    ("AllegroPipeline", 72, None),
    ("AnimateDiffPipeline", 68, None),
    ("CogVideoXPipeline", 72, 13),  # 4n + 1 as its factor says, and decoded in pairs of latent frames
    ("CosmosTextToWorldPipeline", 72, 13),
    ("EasyAnimatePipeline", 72, 10),
    ("HunyuanVideoPipeline", 72, 10),
    ("HunyuanVideo15Pipeline", 68, 10),
    ("LTXPipeline", 80, 10),
    ("LattePipeline", 72, None),
    ("MochiPipeline", 72, 9),
    ("WanPipeline", 72, 10),
]


@pytest.mark.parametrize(("family", "width", "count"), ROUNDED)
def test_what_is_refused_would_not_come_out_and_what_is_named_does(family: str, width: int, count: int | None) -> None:
    pipe, arguments = families.build(family)
    counted = next(name for name in FRAME_COUNTS if name in arguments)
    usual = 8 if count is None else sizes.frame_steps(pipe).nearest(9)[-1]
    usual = arguments[counted] if family == "LattePipeline" else usual  # its denoiser has one length

    def made(**changed: int) -> tuple[int, int] | None:
        """Width and frames of what comes out; None where nothing does."""
        asked = {**arguments, "width": 64, "height": 64, counted: usual, **changed}
        try:
            clip = frames_of(pipe(**asked))
        except (RuntimeError, ValueError):
            return None
        return clip.shape[2], clip.shape[0]

    with pytest.raises(SizeError, match=f"Expected --width in multiples of .*, which is what {family} can make, got "):
        sizes.check(pipe, width, 64, usual)
    assert made(width=width) != (width, usual)
    for near in sizes.side_steps(pipe).nearest(width):
        sizes.check(pipe, near, 64, usual)
        assert made(width=near) == (near, usual)
    if count is not None:
        with pytest.raises(SizeError, match=r"Expected --frames in \dn \+ 1, .* use --frames \d+ or \d+"):
            sizes.check(pipe, 64, 64, count)
        assert made(**{counted: count}) != (64, count)
        for near in sizes.frame_steps(pipe).nearest(count):
            assert made(**{counted: near}) == (64, near)


def loaded(make: Any) -> Loaded:
    torch.manual_seed(0)
    pipe = make()
    pipe.set_progress_bar_config(disable=True)
    return Loaded(pipe, "tiny", None, "text", "cpu", "float32")


def test_everything_that_is_wrong_is_one_sentence() -> None:
    pipeline = loaded(folders.ltx)
    asked = Request(prompt="a red car", width=500, height=90, frames=24, steps=1)
    with pytest.raises(SizeError) as caught:
        generate(pipeline, asked, MARK)
    assert str(caught.value) == (
        "Expected --width in multiples of 32 and --height in multiples of 32 and --frames in 4n + 1, which is what "
        "LTXPipeline can make, got 500 and 90 and 24; use --width 480 or 512 and --height 64 or 96 and --frames 21 or "
        "25.")
    assert caught.value.code == "bad-size"


def test_what_comes_out_otherwise_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A family whose rule is not known must not round in silence."""
    monkeypatch.setattr(sizes, "check", lambda *_: None)
    clip = generate(loaded(folders.wan), Request(prompt="a red car", width=64, height=64, frames=10, steps=1), MARK)
    with pytest.raises(SizeError, match="Expected WanPipeline to make 10 frames, got 9"):
        list(clip.frames)
    frames = iter([np.zeros((64, 96, 3), np.uint8)])
    with pytest.raises(SizeError, match="to make frames of 100x64, got 96x64"):
        next(sizes.as_asked("X", frames, 100, None, None))


def test_a_length_that_the_denoiser_was_not_made_for_is_said() -> None:
    pipe, arguments = families.build("LattePipeline")
    pipeline = Loaded(pipe, "tiny", None, "text", "cpu", "float32")
    pipe.encode_prompt = lambda *_, **__: (arguments["prompt_embeds"], arguments["negative_prompt_embeds"])
    with pytest.raises(SizeError, match="Expected a size and a frame count that LattePipeline was made for, got"):
        generate(pipeline, Request(prompt="a car", width=64, height=64, frames=5, steps=1), MARK)


def test_a_video_that_is_too_short_for_the_frames(tmp_path: Any) -> None:
    import diffusers

    pipe = diffusers.AnimateDiffVideoToVideoPipeline(**folders.animatediff().components)
    pipe.set_progress_bar_config(disable=True)
    make_clip(tmp_path / "in.mp4", width=64, height=64, frames=5)
    asked = Request(prompt="a red car", video=tmp_path / "in.mp4", width=64, height=64, frames=9, steps=1)
    with pytest.raises(InputError, match=r"Expected a video of 9 frames or more .* got 5 in"):
        generate(Loaded(pipe, "tiny", None, "video", "cpu", "float32"), asked, MARK)


def test_frames_are_cut_about_the_middle_and_scaled() -> None:
    frames = torch.zeros(2, 3, 40, 80)
    frames[..., 20:60] = 1.0  # the middle half
    assert sizes.fitted(frames, None) is frames
    assert sizes.fitted(frames, (80, 40)) is frames
    square = sizes.fitted(frames, (64, 64))
    assert square.shape == (2, 3, 64, 64)
    assert float(square.min()) == pytest.approx(1.0)
    tall = sizes.fitted(frames, (80, 160))
    assert tall.shape == (2, 3, 160, 80)
    assert float(tall.min()) == pytest.approx(1.0)
    large = sizes.fitted(frames, (160, 80))
    assert float(large[0, 0, 40, 30]) == pytest.approx(0.0, abs=0.01)
    assert float(large[0, 0, 40, 80]) == pytest.approx(1.0, abs=0.01)
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., ::2] = 1.0
    assert float((sizes.fitted(stripes, (32, 32)) - 0.5).abs().max()) < 0.2  # no aliases


def test_what_a_clip_starts_from_keeps_its_proportions() -> None:
    disc = Image.fromarray(np.hypot(*np.mgrid[-200:200, -100:100]) < 60).convert("RGB")
    cut = np.asarray(sizes.placed(disc, (512, 320)))
    assert cut.shape == (125, 200, 3)
    assert (cut == np.asarray(disc)[137:262]).all()
    drawn = sizes.placed(disc, (512, 320), shown=(256, 512))
    assert drawn.size == (512, 320)
    pixels = torch.from_numpy(np.array(drawn)).permute(2, 0, 1)[None] / 255
    seen = sizes.fitted(pixels, (256, 512))[0, 0].numpy()  # what of that is shown is the whole picture
    wanted = np.asarray(disc.resize((256, 512)))[..., 0] / 255
    assert np.abs(seen - wanted).mean() < 0.01
    assert sizes.placed(Image.new("RGB", (1, 1)), (512, 320), shown=(64, 4096)).size == (512, 320)


@pytest.mark.parametrize(("size", "near"), [((255, 256), "256x256"), ((32, 5000), "64x4096"), ((640, 361), "640x362")])
def test_sizes_that_nothing_is_scaled_to_are_refused(size: tuple[int, int], near: str) -> None:
    sizes.check_shown(640, 360)
    with pytest.raises(SizeError, match=f"use --size {near}"):
        sizes.check_shown(*size)
