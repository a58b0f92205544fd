"""The run, its table and its summary, with a toy in the place of the watermark."""

from __future__ import annotations

import csv
import errno
import json
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from eval import tables
from eval.attacks import DEFAULT
from eval.corpus import Video, interleaved, list_videos, size_class
from eval.methods import Outcome
from eval.robustness import FLOORS, Row, markdown, read_rows, run, runner, summarize, wilson
from eval.robustness.command import robustness
from eval.robustness.runner import secrets_of
from eval.robustness.table import COLUMNS, prepare
from eval.tables import versions_said
from genwm.errors import DiskFullError, InputError, MissingExtraError, NotFoundError, OutputError, TruncatedError
from genwm.keys import Key
from genwm.video import Planes, read_planes
from tests.clips import make_clip

TWO = ("h264.crf40", "still.jpeg80")
RESULTS = Path(__file__).parents[2] / "docs" / "results"


@dataclass(frozen=True)
class Toy:
    """Writes key and payload into the top left corner, in blocks that survive compression; nothing else is like it."""

    name: str = "toy"
    strength: str = "balanced"
    profile: str = "colour"
    wrong_bits: int = 0
    log: Path | None = None

    def mark(self, frames: Iterable[Planes], key: Key, payload: int) -> Iterator[Planes]:
        bits = [int(bit) for bit in f"{payload ^ self.wrong_bits:064b}{key.secret[0]:08b}"]
        for one in frames:
            y = one.y.copy()
            y[:72, :64] = np.kron(np.array(bits).reshape(9, 8) * 160 + 40, np.ones((8, 8)))
            yield replace(one, y=y)

    def read(self, file: BytesIO, keys: Sequence[Key]) -> Outcome:
        if self.log:
            with self.log.open("a") as log:
                log.write(f"{len(file.getvalue())}\n")
        frame = next(read_planes(file, threads=1))
        blocks = frame.y[:72, :64].reshape(9, 8, 8, 8).mean(axis=(1, 3)).ravel() > 120
        value = int("".join(str(int(bit)) for bit in blocks), 2)
        found = [key for key in keys if key.secret[0] == value & 255]
        if not found:
            return Outcome(False, log10_p=-0.5)
        return Outcome(True, found[0].name, value >> 8, -20.0, 1.0, 0.0, False, 1.0, 1)


class Broken(Toy):
    """Finds nothing."""

    def read(self, file: BytesIO, keys: Sequence[Key]) -> Outcome:
        return Outcome(False, log10_p=0.0)


class Failing(Toy):
    def read(self, file: BytesIO, keys: Sequence[Key]) -> Outcome:
        if file.getvalue()[:2] == b"\xff\xd8":
            raise TruncatedError("Expected more,\ngot less; copy it again")
        raise ValueError("no")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    (folder / "a").mkdir()
    for name, seed, width in (("a/one.mp4", 1, 160), ("a/two.mp4", 2, 176), ("three.mp4", 3, 160)):
        make_clip(folder / name, width=width, height=128, frames=6, seed=seed)
    return folder


def measure(videos: Path, out: Path, toy: Toy | None = None, **options: object) -> list[Row]:
    settings: dict[str, object] = {"attacks": TWO, "max_frames": 4, "min_short_side": 0, "processes": 1, **options}
    return run(videos, out, methods=[toy or Toy()], **settings)  # type: ignore[arg-type]


def row(**values: object) -> Row:
    base: dict[str, object] = dict.fromkeys(("clip", "label", "group", "family"), "")
    base |= {"short_side": 720, "frames": 72, "span": "72f", "attack": "h264.crf40"}
    base |= {"watermark": "lattice", "strength": "balanced", "profile": "colour"}
    return Row(**(base | values))  # type: ignore[arg-type]


# --- the run ---


def test_a_run_gives_one_row_for_each_clip_and_attack(videos: Path, tmp_path: Path) -> None:
    rows = measure(videos, tmp_path / "out.csv")
    assert Counter(one.attack for one in rows) == {"h264.crf40": 3, "still.jpeg80": 3}
    assert {one.clip for one in rows} == {"a/one.mp4", "a/two.mp4", "three.mp4"}
    for one in rows:
        assert (one.present, one.right_key, one.exact, one.wrong_payload, one.bit_accuracy) == (1, 1, 1, 0, 1.0)
        assert (one.frames, one.span, one.short_side, one.error, one.flip) == (4, "4f", 128, "", 0)
        assert one.read_s is not None
        assert one.versions.startswith("genwm ")
    assert read_rows(tmp_path / "out.csv") == rows


def test_wrong_payloads_and_missed_marks_are_told_apart(videos: Path, tmp_path: Path) -> None:
    wrong = measure(videos, tmp_path / "wrong.csv", Toy(wrong_bits=0b111))
    assert all((one.present, one.exact, one.wrong_payload, one.bit_accuracy) == (1, 0, 1, 1 - 3 / 64) for one in wrong)
    missed = measure(videos, tmp_path / "missed.csv", Broken())
    assert all((one.present, one.exact, one.wrong_payload, one.bit_accuracy) == (0, 0, 0, None) for one in missed)
    assert "**<**" in markdown(summarize([replace(one, span="72f", short_side=720) for one in missed]))


def test_a_run_goes_on_where_it_was_killed(videos: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out.csv", tmp_path / "log"
    whole = measure(videos, out)
    lines = out.read_bytes().splitlines(keepends=True)
    for torn in (
        b"".join(lines[:4]) + lines[4][:30],
        b"".join(lines[:4]) + b'"' + lines[4][:9] + b"\n",
        lines[0][:20],
        b"",
    ):
        out.write_bytes(torn)
        log.unlink(missing_ok=True)
        kept = 3 if len(torn) > len(lines[0]) else 0
        again = measure(videos, out, Toy(log=log))
        assert len(log.read_text().split()) == len(whole) - kept
        assert sorted(one.key for one in again) == sorted(one.key for one in whole)
        log.unlink()
        assert measure(videos, out, Toy(log=log)) == again
        assert not log.exists()


def test_other_settings_are_other_rows(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    measure(videos, out, limit=1)
    measure(videos, out, limit=1, max_seconds=0.1)
    rows = measure(videos, out, Toy(strength="strong"), limit=1)
    assert Counter((one.strength, one.span) for one in rows) == {
        ("balanced", "4f"): 2, ("balanced", "0.1s"): 2, ("strong", "4f"): 2,
    }  # fmt: skip
    assert {one.frames for one in rows if one.span == "0.1s"} == {3}  # at 0, 0.04 and 0.08 s


def test_another_seed_does_not_continue_a_table(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    measure(videos, out, Failing(), limit=1, attacks=["none"])
    before = out.read_bytes()
    with pytest.raises(OutputError, match=r"^Expected rows with seed 1 in .*out\.csv, got 0; choose another name"):
        measure(videos, out, seed=1, attacks=["none", "still.jpeg80"])
    assert out.read_bytes() == before
    assert [one.seed for one in measure(videos, out, limit=1, attacks=["none"], seed=1, retry_errors=True)] == [1]


def test_another_clip_of_the_same_name_does_not_continue_a_table(videos: Path, tmp_path: Path) -> None:
    out, copy, other = tmp_path / "out.csv", tmp_path / "copy", tmp_path / "other"
    for folder, name in ((copy, "three.mp4"), (other, "a/one.mp4")):
        folder.mkdir()
        (folder / "three.mp4").write_bytes((videos / name).read_bytes())
    measure(videos, out)
    log = tmp_path / "log"
    measure(copy, out, Toy(log=log))
    assert not log.exists()  # the same clip in another folder is the same
    before = out.read_bytes()
    with pytest.raises(OutputError, match=r"^Expected the clip three\.mp4 that .* was measured on \(sha"):
        measure(other, out, attacks=["none"])
    assert out.read_bytes() == before


def test_a_table_without_hashes_goes_on_and_learns_them(videos: Path, tmp_path: Path) -> None:
    """As the tables that are published are."""
    out, log = tmp_path / "out.csv", tmp_path / "log"
    rows = measure(videos, out, attacks=TWO[:1])
    names = [name for name in COLUMNS if name != "sha256"]
    tables.rewrite(out, names, ([asdict(one)[name] for name in names] for one in rows))
    assert {one.sha256 for one in read_rows(out)} == {""}
    again = measure(videos, out, Toy(log=log))
    assert len(log.read_text().split()) == 3
    assert {(one.attack, len(one.sha256)) for one in again} == {(TWO[0], 0), (TWO[1], 16)}


def test_published_tables_are_continued_as_they_are(tmp_path: Path) -> None:
    for path in (RESULTS / f"{name}.csv" for name in ("comparison", "hostile-72f", "robustness-10s", "videoseal-72")):
        rows, copy = read_rows(path), tmp_path / path.name
        copy.write_bytes(path.read_bytes())
        assert prepare(copy) == rows == read_rows(copy)
        assert {one.seed for one in rows} == {0}


def test_errors_are_rows_and_can_be_tried_again(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    rows = measure(videos, out, Failing(), limit=1)
    assert {one.attack: (one.error, one.message) for one in rows} == {
        "h264.crf40": ("internal", "ValueError: no"),
        "still.jpeg80": ("truncated", "Expected more, got less; copy it again"),
    }
    assert measure(videos, out, limit=1) == rows
    again = measure(videos, out, limit=1, retry_errors=True)
    assert [one.error for one in again] == ["", ""]


def test_a_clip_that_was_mended_is_measured_with_retry_errors(videos: Path, tmp_path: Path) -> None:
    folder, out, log = tmp_path / "mended", tmp_path / "out.csv", tmp_path / "log"
    folder.mkdir()
    (folder / "three.mp4").write_bytes(b"no video")
    assert {one.error for one in measure(folder, out)} == {"not-media"}
    (folder / "three.mp4").write_bytes((videos / "three.mp4").read_bytes())
    with pytest.raises(OutputError, match=r"; give --retry-errors to measure it again, or choose another name for "):
        measure(folder, out)
    assert {one.error for one in measure(folder, out, Toy(log=log), retry_errors=True)} == {""}
    (folder / "three.mp4").write_bytes((videos / "a" / "one.mp4").read_bytes())
    with pytest.raises(OutputError, match=r"\.\.\.\); choose another name for the table$"):  # figures of two clips
        measure(folder, out)


def test_clips_are_read_as_they_are_measured_and_compared_with_word(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large folder would be silent while all its clips are hashed."""
    out, events = tmp_path / "out.csv", list[str]()
    content = Video.content.func  # type: ignore[attr-defined]

    def read(video: Video) -> str:
        events.append(f"read {video.id}")
        return str(content(video))

    monkeypatch.setattr(Video, "content", property(read))
    told = {"progress": lambda done, total, name: events.append(f"measured {done}/{total}"),
            "checking": lambda done, total, name: events.append(f"compared {done}/{total}")}  # fmt: skip
    measure(videos, out, attacks=["none"], **told)
    assert [event.split()[0] for event in dict.fromkeys(events)] == ["read", "measured"] * 3
    events.clear()
    measure(videos, out, attacks=["none"], **told)
    assert [event for event in events if "compared" in event] == [f"compared {place}/3" for place in (1, 2, 3)]


def test_what_is_at_work_is_told_within_a_clip(videos: Path, tmp_path: Path) -> None:
    """A clip with a long list of attacks takes minutes: the row of its first is told of before the second is done."""
    seen, told = threading.Event(), list[tuple[int, int]]()

    def working(done: int, total: int) -> None:
        told.append((done, total))
        if done:
            seen.set()

    class Patient(Toy):
        def read(self, file: BytesIO, keys: Sequence[Key]) -> Outcome:
            assert told[0] == (0, 2)
            assert (tmp_path / "out.csv").read_text().count("\n") == 1 or seen.wait(60)
            return super().read(file, keys)

    rows = measure(videos, tmp_path / "out.csv", Patient(), clips=["three.mp4"], working=working, every_s=0.01)
    assert [row.error for row in rows] == ["", ""]
    assert (1, 2) in told
    assert not [thread for thread in threading.enumerate() if thread.name == "ticking"]


def test_files_without_a_manifest_are_told_of_as_they_are_opened(videos: Path, tmp_path: Path) -> None:
    told = list[tuple[int, int, str]]()
    list_videos(videos, progress=lambda *words: told.append(words))
    assert [words[:2] for words in told] == [(count, len(told)) for count in range(1, len(told) + 1)]
    assert "three.mp4" in [name for _, _, name in told]


def test_a_clip_that_cannot_be_read_does_not_stop_the_others(videos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "bad.mp4").write_bytes(b"not a video" * 99)
    (folder / "empty.mkv").write_bytes(b"")
    (folder / "good.mp4").write_bytes((videos / "three.mp4").read_bytes())
    rows = measure(folder, tmp_path / "out.csv")
    assert {(one.clip, one.error) for one in rows} == {
        ("bad.mp4", "not-media"), ("empty.mkv", "empty-file"), ("good.mp4", ""),
    }  # fmt: skip
    assert len(rows) == 6


def test_a_missing_package_stops_the_run(videos: Path, tmp_path: Path) -> None:
    class Missing(Toy):
        def read(self, file: BytesIO, keys: Sequence[Key]) -> Outcome:
            raise MissingExtraError("Expected torch, got none; install it")

    class Importing(Toy):
        def read(self, file: BytesIO, keys: Sequence[Key]) -> Outcome:
            raise ModuleNotFoundError("No module named 'nothing'")

    with pytest.raises(MissingExtraError):
        measure(videos, tmp_path / "out.csv", Missing())
    with pytest.raises(MissingExtraError, match=r"^Expected the packages of toy, got 'No module named 'nothing''; "):
        measure(videos, tmp_path / "out.csv", Importing())


@pytest.mark.parametrize("where", ["marking", "reading"])
def test_no_room_for_temporary_files_stops_the_run_and_leaves_no_row(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Its rows would count as not found, and would keep the clips from being measured once there is room."""
    out, toy = tmp_path / "out.csv", Toy()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(runner, "_kept" if where == "marking" else "_judged", full)
    with pytest.raises(DiskFullError, match=r"^Expected room on the disk for temporary files in .* TMPDIR, and run ag"):
        measure(videos, out, toy, limit=1)
    assert read_rows(out) == []
    monkeypatch.undo()
    assert [one.error for one in measure(videos, out, toy, limit=1)] == ["", ""]


def test_odd_sizes_and_oblong_pixels_become_even_and_square(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    make_clip(folder / "odd.mkv", width=161, height=129, frames=3, codec="ffv1", crf=None, preset=None)
    (one,) = measure(folder, tmp_path / "out.csv", attacks=["none"])
    assert one.short_side == 128
    assert one.exact


def test_workers_give_the_same_rows(videos: Path, tmp_path: Path) -> None:
    one = measure(videos, tmp_path / "one.csv", attacks=["none"], limit=2)
    two = measure(videos, tmp_path / "two.csv", attacks=["none"], limit=2, processes=2)

    def plain(rows: list[Row]) -> list[Row]:
        timeless = (replace(each, mark_ms_per_frame=None, attack_s=None, read_s=None) for each in rows)
        return sorted(timeless, key=lambda each: each.key)

    assert plain(one) == plain(two)


def test_secrets_depend_on_clip_and_seed() -> None:
    clips = [Video(path=Path(), id=f"{number}.mp4") for number in range(64)]
    drawn = [secrets_of(clip, seed) for clip in clips for seed in (0, 1)]
    assert len({key.secret for key, *_ in drawn} | {decoy.secret for _, decoy, *_ in drawn}) == 256
    assert len({payload for *_, payload, _ in drawn}) == 128
    assert 30 < sum(decoy_first for *_, decoy_first in drawn) < 98
    assert secrets_of(clips[0], 0) == secrets_of(clips[0], 0)


def test_another_table_is_left_alone(videos: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(OutputError, match=r"^Expected a table of robustness results in .*other\.csv"):
        measure(videos, other)
    assert other.read_text() == "a,b\n1,2\n"


def test_an_unknown_attack_and_an_empty_folder_are_told_at_once(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got 'nonsense';"):
        measure(videos, tmp_path / "out.csv", attacks=["nonsense"])
    with pytest.raises(InputError, match=r"^Expected a folder with an autoencoder's config\.json at .*none, got none;"):
        measure(videos, tmp_path / "out.csv", attacks=["none", f"vae={tmp_path / 'none'}"])
    with pytest.raises(InputError, match=r"^Expected video files"):
        measure(videos, tmp_path / "out.csv", min_short_side=500)
    with pytest.raises(NotFoundError):
        measure(tmp_path / "nowhere", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


# --- the corpus ---


def test_clips_come_from_the_manifest_if_there_is_one(videos: Path, tmp_path: Path) -> None:
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "group", "family", "width", "height", "sha256"])
        writer.writerow(["x/a.mp4", "real", "g", "f", 640, 480, "ab"])
        writer.writerow(["b.mp4", "", "", "", "", "", ""])
        writer.writerow(["c.mp4", "real", "g", "f", 320, 240, ""])
    listed = {video.id: video for video in list_videos(tmp_path, min_short_side=480)}
    assert set(listed) == {"x/a.mp4", "b.mp4"}  # a size that is not known is no reason to leave a clip out
    first = listed["x/a.mp4"]
    assert (first.path, first.label, first.short_side, first.sha256) == (tmp_path / "x/a.mp4", "real", 480, "ab")
    assert {video.id for video in list_videos(tmp_path, max_short_side=300)} == {"b.mp4", "c.mp4"}


def test_a_folder_without_a_manifest_is_searched(videos: Path) -> None:
    listed = {video.id: (video.group, video.width, video.height) for video in list_videos(videos)}
    assert listed == {"a/one.mp4": ("a", 160, 128), "a/two.mp4": ("a", 176, 128), "three.mp4": ("", 160, 128)}


def test_a_link_that_leads_nowhere_is_a_row_and_a_folder_is_no_clip(tmp_path: Path) -> None:
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "loop.mkv").symlink_to("loop.mkv")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "linked.mp4").symlink_to(tmp_path / "folder.mp4")
    assert {video.id for video in list_videos(tmp_path)} == {"gone.mp4", "loop.mkv"}
    rows = run(tmp_path, tmp_path / "out.csv", attacks=["none"], methods=[Toy()], processes=1)
    assert {row.clip for row in rows} == {"gone.mp4", "loop.mkv"}
    assert all(row.error and "Expected a" in row.message for row in rows)


@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    seed=st.integers(0, 9),
    share=st.floats(0, 1),
)
def test_every_beginning_is_a_fair_sample(counts: list[int], seed: int, share: float) -> None:
    clips = [
        Video(path=Path(), id=f"{family}/{number}", family=str(family), width=720, height=720)
        for family, count in enumerate(counts)
        for number in range(count)
    ]
    order = interleaved(clips, seed=seed)
    assert sorted(one.id for one in order) == sorted(one.id for one in clips)
    assert order == interleaved(reversed(clips), seed=seed)
    part = Counter(one.family for one in order[: round(share * len(order))])
    for family, count in enumerate(counts):
        assert abs(part[str(family)] - share * count) <= 1 + len(counts) * count / len(clips)


@pytest.mark.parametrize(
    ("lines", "name"),
    [(2160, "720+"), (720, "720+"), (719, "480-719"), (480, "480-719"), (479, "240-479"), (239, "under 240")],
)
def test_size_classes(lines: int, name: str) -> None:
    assert size_class(lines) == name


# --- the summary ---


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3; and 0 or all of n.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_wilson_against_published_values(hits: int, count: int, low: float, high: float) -> None:
    assert wilson(hits, count) == pytest.approx((low, high), abs=6e-5)


@given(st.integers(1, 500), st.floats(0, 1))
def test_wilson_holds_the_rate_and_solves_its_equation(count: int, share: float) -> None:
    hits = round(share * count)
    rate = hits / count
    low, high = wilson(hits, count)
    assert 0 <= low <= rate + 1e-12
    assert rate - 1e-12 <= high <= 1
    for bound in (low, high):  # the score test at the bound has z = 1.96
        if 0 < bound < 1:
            assert (rate - bound) ** 2 * count == pytest.approx(1.959964**2 * bound * (1 - bound), rel=1e-6, abs=1e-12)


def test_cells_count_by_attack_and_size() -> None:
    rows = [
        row(clip="a", present=1, right_key=1, exact=1, log10_p=-9.0, read_s=1.0),
        row(clip="b", present=1, right_key=1, log10_p=-7.0, read_s=3.0),
        row(clip="c", present=1, wrong_payload=1, log10_p=-8.0),
        row(clip="d", error="truncated"),
        row(clip="e", short_side=500, present=1, right_key=1, exact=1),
        row(clip="f", short_side=300),
        row(clip="a", attack="h264.crf23", present=1, right_key=1, exact=1),
    ]
    cells = {(cell.attack, cell.size): cell for cell in summarize(rows)}
    assert list(cells) == [("h264.crf23", "720+"), *(("h264.crf40", size) for size in ("720+", "480-719", "240-479"))]
    cell = cells[("h264.crf40", "720+")]
    assert (cell.clips, cell.errors, cell.present, cell.exact, cell.wrong_key, cell.wrong_payload) == (4, 1, 2, 1, 1, 1)
    assert (cell.present_rate, cell.exact_rate, cell.median_log10_p, cell.mean_read_s) == (50, 25, -8, 2)
    assert (cell.present_floor, cell.exact_floor, cell.present_met, cell.exact_met) == (97, 60, False, False)
    small = cells[("h264.crf40", "240-479")]
    assert (small.present_floor, small.present_met) == (None, None)
    assert cells[("h264.crf40", "480-719")].exact_floor == 35
    assert cells[("h264.crf23", "720+")].present_met


def test_marks_in_what_nobody_marked_are_told_as_false() -> None:
    forged = [row(clip=clip, attack="transplant.16+h264.crf23", present=1, right_key=1) for clip in "ab"]
    clean = row(clip="a", attack="unmarked+h264.crf23")
    text = markdown(summarize([*forged, clean, row(clip="a", present=1, right_key=1)]))
    assert "nobody marked (transplant.16+h264.crf23, unmarked+h264.crf23): 2 of 3.\n" in text
    assert "nobody marked" not in markdown(summarize([row(clip="a", present=1, right_key=1)]))


def test_clips_of_unknown_size_are_a_class_of_their_own() -> None:
    unread = row(clip="a", short_side=0, error="not-media")
    cells = summarize([unread, row(clip="b", short_side=100), row(clip="c", short_side=500)])
    assert [(cell.size, cell.clips, cell.errors) for cell in cells] == [
        ("480-719", 1, 0), ("under 240", 1, 0), ("unknown size", 1, 1),
    ]  # fmt: skip
    head = next(line for line in markdown(cells).splitlines() if line.startswith("| attack |"))
    assert head.index("under 240: present") < head.index("unknown size: present")


def test_the_report_begins_with_what_is_missed() -> None:
    text = markdown(summarize([row(clip="a", present=1, right_key=1), row(clip="b", short_side=480)]))
    assert text.index("- h264.crf40, 720+ lines: exact 0.0 % of 1, floor 60 %") < text.index("| attack |")
    assert "| h264.crf40 | 100.0 [21, 100] 1/1 ≥ 97 | 0.0 [0, 79] 0/1 **<** 60 |" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {8}


def test_every_attack_of_the_table_has_its_floor() -> None:
    assert set(FLOORS) == set(DEFAULT)
    for floor in FLOORS.values():
        assert all(exact <= present for present, exact in zip(floor.present, floor.exact, strict=True))
        assert floor.present[0] >= floor.present[1]


# --- the command ---


def test_the_command_sums_up_a_table(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    measure(videos, out)
    result = CliRunner().invoke(robustness, ["--out", str(out), "--summary-only", "--json"])
    assert result.exit_code == 0, result.output
    assert [(cell["attack"], cell["clips"]) for cell in json.loads(result.stdout)] == [(name, 3) for name in TWO]
    assert (tmp_path / "out.md").read_text() in result.stderr
    with (tmp_path / "out.summary.csv").open(newline="") as file:
        assert [cell["present_rate"] for cell in csv.DictReader(file)] == ["100.00", "100.00"]


def test_the_command_lists_attacks_and_says_what_is_wrong(tmp_path: Path) -> None:
    out = str(tmp_path / "out.csv")
    listed = CliRunner().invoke(robustness, ["--out", out, "--attacks", "list"])
    assert all(name in listed.stdout for name in DEFAULT)
    wrong = ["--videos", str(tmp_path), "--attacks", "h264.crf23,nonsense"]
    for arguments, code in ((["--summary-only"], "not-found"), (wrong, "bad-input")):
        result = CliRunner().invoke(robustness, ["--out", out, *arguments])
        assert result.exit_code == 2
        assert result.stderr.startswith(f"error[{code}]: Expected ")


def test_a_folder_without_a_readable_clip_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    out = tmp_path / "out.csv"
    arguments = ["--videos", str(tmp_path), "--out", str(out), "--attacks", ",".join(TWO), "--processes", "1"]
    result = CliRunner().invoke(robustness, [*arguments, "--json"])
    assert (result.exit_code, json.loads(result.stdout)["error"]["code"]) == (2, "bad-input")
    assert "nothing but errors (2)" in result.stderr.splitlines()[-1]
    assert "not-media: Expected a video" in result.stderr.splitlines()[-1]
    assert len(read_rows(out)) == 2  # one record each all the same
    make_clip(tmp_path / "good.mp4", width=320, height=256, frames=4)
    assert CliRunner().invoke(robustness, [*arguments, "--min-short-side", "0"]).exit_code == 0


@pytest.mark.parametrize(
    ("options", "got"),
    [
        (["--quick", "--full"], "--quick and --full"),
        (["--full", "--quick"], "--quick and --full"),
        (["--quick", "--protocol", "videoseal-72"], "--quick and --protocol videoseal-72"),
    ],
)
def test_presets_that_contradict_each_other_are_refused(
    videos: Path, tmp_path: Path, options: list[str], got: str
) -> None:
    arguments = ["--videos", str(videos), "--out", str(tmp_path / "out.csv"), *options]
    result = CliRunner().invoke(robustness, arguments)
    assert result.exit_code == 2
    assert result.stderr == (
        f"error[bad-input]: Expected one of --quick, --full and --protocol, got {got}; give one\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_rows_of_an_earlier_version_are_kept_and_told_of(videos: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out.csv", tmp_path / "log"
    rows = measure(videos, out, attacks=TWO[:1])
    old = [replace(one, versions="genwm 0.1.0 (mark 0, reader 0); av 1") for one in rows]
    tables.rewrite(out, COLUMNS, (asdict(one).values() for one in old))
    again = measure(videos, out, Toy(log=log))
    assert [one for one in again if one.attack == TWO[0]] == old
    assert len(log.read_text().split()) == 3
    said = versions_said(one.versions for one in again)
    assert "2 versions of the code" in said
    assert "genwm 0.1.0 (mark 0, reader 0): 3" in said


def test_rows_by_several_versions_are_told_of() -> None:
    old = [row(clip=name, versions="genwm 1 (mark a, reader b); av 18") for name in "ab"]
    new = row(clip="c", versions="genwm 1 (mark a, reader c); av 18")
    assert versions_said(one.versions for one in old) == ""
    assert "2 versions of the code: genwm 1 (mark a, reader b): 2, genwm 1 (mark a, reader c): 1" in versions_said(
        one.versions for one in [*old, new])
