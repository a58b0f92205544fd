"""The pipeline that comes with the package: whole, small, repeatable, and loadable for every task."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from PIL import Image  # noqa: E402

from genwm.pipelines import load  # noqa: E402
from genwm.tiny import (  # noqa: E402
    EMBEDDED,
    evaluate,
    export,
)
from genwm.tiny.data import clip  # noqa: E402
from genwm.tiny.text import tokenizer  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers and transformers warn of their own plans
torch.set_num_threads(1)
MEGABYTE = 1_000_000


def test_the_files_are_those_of_the_manifest_and_small() -> None:
    assert json.loads((EMBEDDED / export.MANIFEST).read_text()) == export.digests()
    sizes = [path.stat().st_size for path in EMBEDDED.rglob("*") if path.is_file()]
    assert max(sizes) < 20 * MEGABYTE
    assert sum(sizes) < 40 * MEGABYTE


def test_the_words_are_those_of_the_recipe() -> None:
    shipped = (EMBEDDED / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8")
    assert json.loads(shipped) == json.loads(tokenizer().backend_tokenizer.to_str())


def test_the_same_seed_gives_the_same_clip_of_the_asked_shape() -> None:
    pipe = load(EMBEDDED).pipe
    first, again, other = (
        pipe("a blue car drives to the left", width=512, height=320, num_frames=25, num_inference_steps=2,
             output_type="np", generator=torch.Generator().manual_seed(seed)).frames
        for seed in (1, 1, 2)
    )
    assert first.shape == (1, 25, 320, 512, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_clip_begins_as_the_image_that_it_was_given() -> None:
    frames = clip(0)[1]
    pipe = load(EMBEDDED, task="image").pipe
    made = pipe(image=Image.fromarray(frames[0]), prompt="a black car drives left at night", width=512, height=320,
                num_frames=9, num_inference_steps=4, output_type="np",
                generator=torch.Generator().manual_seed(0)).frames[0]
    other = clip(1)[1][0]
    assert np.abs(made[0] * 255 - frames[0]).mean() < 0.5 * np.abs(made[0] * 255 - other).mean()


def test_a_video_that_is_given_comes_back() -> None:
    frames = clip(0)[1][:9]
    pipe = load(EMBEDDED, task="video").pipe
    # A list of frames would be as many conditions on the first frame; a list of one video is one condition.
    made = pipe(video=[[Image.fromarray(frame) for frame in frames]], prompt="a red ball rolls to the right", width=512,
                height=320, num_frames=9, num_inference_steps=4, output_type="np",
                generator=torch.Generator().manual_seed(0)).frames[0]
    assert made.shape == (9, 320, 512, 3)
    others = [clip(number)[1][:9] for number in (1, 4)]
    error = np.abs(made * 255 - frames).mean()
    assert all(error < 0.5 * np.abs(made * 255 - other).mean() for other in others)


def test_the_autoencoder_gives_back_what_it_was_given() -> None:
    frames = clip(0)[1]
    out = evaluate.through(export.parts()["vae"], frames)
    assert np.abs(out.astype(float) - frames).mean() < 12  # of 255; 7 to 8 as trained


@pytest.mark.parametrize(("hits", "count", "low", "high"), [(80, 100, 0.7112, 0.8666), (0, 10, 0.0, 0.2775)])
def test_the_interval_of_a_share(hits: int, count: int, low: float, high: float) -> None:
    found = evaluate.share(hits, count)
    assert found["share"] == pytest.approx(hits / count)
    assert (found["low"], found["high"]) == (pytest.approx(low, abs=2e-4), pytest.approx(high, abs=2e-4))
