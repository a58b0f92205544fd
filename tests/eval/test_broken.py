"""Watermarks that are broken on purpose, from marking to the page: each is called broken, in words."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from eval.attacks.insiders import UNMARKED
from eval.corpus import list_videos
from eval.methods import Lattice, Outcome
from eval.quality import Settings
from eval.quality import run as measure_quality
from eval.quality.running import OURS
from eval.report.beside import quality_path
from eval.report.compare import compared, worse_first
from eval.report.faults import faults
from eval.report.page import write_page
from eval.robustness import Row, run
from genwm.keys import Key
from genwm.video import Planes
from tests.clips import make_clip

ATTACKS = ("h264.crf23", UNMARKED)


class RandomPayload(Lattice):
    """Finds the mark, and reads another message every time."""

    def read(self, file: BytesIO, keys: Sequence[Key]) -> Outcome:
        outcome = super().read(file, keys)
        rng = np.random.default_rng(zlib.crc32(file.getvalue()))
        return outcome._replace(payload=int(rng.integers(1 << 63)) if outcome.detected else None)


class AlwaysPresent(Lattice):
    """Marks nothing, and finds its mark in everything."""

    def mark(self, frames: Iterable[Planes], key: Key, payload: int) -> Iterator[Planes]:
        yield from frames

    def read(self, file: BytesIO, keys: Sequence[Key]) -> Outcome:
        return Outcome(True, keys[0].name, None, -9.0)


class Damaging(Lattice):
    """Marks, and adds noise that anybody sees."""

    def mark(self, frames: Iterable[Planes], key: Key, payload: int) -> Iterator[Planes]:
        rng = np.random.default_rng(0)
        for one in super().mark(frames, key, payload):
            noisy = np.clip(one.y + rng.normal(0, 25, one.y.shape), 16, 235)
            yield replace(one, y=np.rint(noisy).astype(np.uint8))


class Blind(Lattice):
    """Finds nothing."""

    def read(self, file: BytesIO, keys: Sequence[Key]) -> Outcome:
        return Outcome(False, log10_p=0.0)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed in range(4):
        make_clip(folder / f"{seed}.mp4", width=320, height=256, frames=6, seed=seed)
    return folder


def measured(videos: Path, out: Path, method: Lattice) -> list[Row]:
    return run(videos, out, attacks=ATTACKS, methods=[method], max_frames=6, min_short_side=0, processes=1)


def said(out: Path) -> tuple[dict[str, str], str]:
    """The sentences of the page's JSON by code, and the page."""
    page = write_page(out)
    document = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    return {one["code"]: one["sentence"] for one in document["faults"]}, page.read_text(encoding="utf-8")


def needs_pages() -> None:
    pytest.importorskip("matplotlib", reason="pages are not tested: they need the extra 'report'")
    pytest.importorskip("jinja2", reason="pages are not tested: they need the extra 'report'")


def test_a_reader_of_random_messages_is_called_so(videos: Path, tmp_path: Path) -> None:
    needs_pages()
    good = measured(videos, tmp_path / "good.csv", Lattice())
    bad = measured(videos, tmp_path / "bad.csv", RandomPayload())
    sentences, page = said(tmp_path / "good.csv")
    assert sentences == {}
    assert "What does not work" not in page
    sentences, page = said(tmp_path / "bad.csv")
    assert set(sentences) == {"wrong-message", "guessed"}
    assert "wrong messages: 4 of 4 rows in which it finds the mark" in sentences["wrong-message"]
    assert page.index("What does not work") < page.index("is behind")
    assert all(sentence in page for sentence in sentences.values())
    (worse,) = worse_first(compared(good, bad).changes)
    assert (worse.attack, worse.exact.value, worse.wrong_a, worse.wrong_b) == ("h264.crf23", -1, 0, 4)
    assert worse_first(compared(bad, good).changes) == []


def test_a_reader_that_always_says_present_is_called_so(videos: Path, tmp_path: Path) -> None:
    needs_pages()
    measured(videos, tmp_path / "run.csv", AlwaysPresent())
    sentences, page = said(tmp_path / "run.csv")
    assert set(sentences) >= {"false-mark"}
    assert "4 of 4 rows without a mark" in sentences["false-mark"]
    assert sentences["false-mark"] in page


def test_a_key_that_was_not_used_is_told(videos: Path, tmp_path: Path) -> None:
    """Without the control, the decoy gives away who names the first key that he is given."""
    rows = run(
        videos, tmp_path / "run.csv", attacks=ATTACKS[:1], methods=[AlwaysPresent()], min_short_side=0, processes=1
    )
    wrong = sum(not row.right_key for row in rows)
    assert wrong  # of four clips the decoy comes first in some
    assert {one.code: one.sentence for one in faults(rows, {})}["wrong-key"].endswith(f"named in {wrong} of 4 rows.")


def test_a_mark_that_damages_the_picture_is_called_so(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_pages()
    out = tmp_path / "run.csv"
    measured(videos, out, Damaging())
    settings = Settings(metrics=("psnr",), frames=6)
    measure_quality(list_videos(videos), quality_path(out), methods=(OURS,), settings=settings)
    assert "visible" not in said(out)[0]  # the real mark

    def damaged(planes: Sequence[Planes], *_: object) -> list[Planes]:
        return list(Damaging().mark(planes, Key("k", bytes(32), "2026-01-01T00:00:00+00:00"), 7))

    monkeypatch.setattr("eval.quality.running.mark_planes", damaged)
    quality_path(out).unlink()
    measure_quality(list_videos(videos), quality_path(out), methods=(OURS,), settings=settings)
    sentences, page = said(out)
    found = re.fullmatch(r"It damages the picture: PSNR ([0-9.]+) dB\.", sentences["visible"])
    assert found
    assert float(found[1]) == pytest.approx(20 * math.log10(255 / 25), abs=2)  # what the noise alone gives in luma
    assert sentences["visible"] in page


def test_a_reader_that_finds_nothing_and_clips_that_fail_are_told(videos: Path, tmp_path: Path) -> None:
    rows = measured(videos, tmp_path / "run.csv", Blind())
    assert {one.code for one in faults(rows, {})} == {"nothing-found"}
    failed = [replace(row, error="not-media") for row in rows[:3]]
    by_code = {one.code: one.sentence for one in faults([*failed, *rows[3:]], {})}
    assert by_code["errors"] == "3 of 8 rows ended in an error (not-media 3) and count as not found."
