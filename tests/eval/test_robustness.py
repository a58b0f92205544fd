"""The run and its table, with a toy in the place of the watermark."""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path

import pytest

from eval import tables
from eval.corpus import Video
from eval.methods import Outcome
from eval.robustness import Row, markdown, read_rows, runner, summarize
from eval.robustness.runner import secrets_of
from eval.robustness.table import COLUMNS, prepare
from eval.tables import versions_said
from genwm.errors import DiskFullError, InputError, MissingExtraError, NotFoundError, OutputError, TruncatedError
from genwm.keys import Key
from tests.clips import make_clip
from tests.eval.toy import TWO, Toy, measure, three_clips

RESULTS = Path(__file__).parents[2] / "docs" / "results"


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
    return three_clips(tmp_path_factory.mktemp("videos"))


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
