"""The runner of quality and its table, with noise in the place of the mark."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from eval import tables
from eval.corpus import Video, list_videos
from eval.quality import Footage, Settings, read_rows, run, summary
from eval.quality import running as running_module
from eval.quality.running import COLUMNS, failures
from genwm.errors import DiskFullError, InputError, MissingExtraError, OutputError
from genwm.video import Planes
from tests.eval.noise import mark_with_noise, two_clips

QUICK = Settings(metrics=("psnr",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_clips(tmp_path_factory.mktemp("videos"))


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return mark_with_noise(monkeypatch)


@pytest.fixture
def clips(folder: Path) -> list[Video]:
    return list_videos(folder)


def test_every_clip_gives_one_row(clips: list[Video], marked: list[str], tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    assert run(clips, out, settings=QUICK) == 3
    rows = {row["clip"]: row for row in read_rows(out)}
    assert set(rows) == {"one.mkv", "two.mkv", "bad.mp4"}
    assert rows["bad.mp4"]["error"] == "not-media"
    assert rows["bad.mp4"]["luma_psnr"] == ""
    good = rows["one.mkv"]
    assert [good[name] for name in ("width", "height", "short_side", "fps", "frames", "rgb_frames", "error")] == [
        *("162", "130", "130", "24.0000", "26", "24", "")
    ]
    assert 41 < float(good["luma_psnr"]) < 43
    assert good["vmaf"] == good["jod_fhd"] == ""
    assert sorted(marked) == ["one.mkv", "two.mkv"]


def test_a_run_goes_on_where_it_was_killed(clips: list[Video], marked: list[str], tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    run(clips, out, settings=QUICK)
    whole = out.read_bytes()
    out.write_bytes(whole[:-20])
    assert len(read_rows(out)) == 2
    marked.clear()
    assert run(clips, out, settings=QUICK) == 1
    assert len(marked) <= 1
    assert {row["clip"] for row in read_rows(out)} == {"one.mkv", "two.mkv", "bad.mp4"}
    assert len(out.read_bytes().splitlines()) == 4
    assert run(clips, out, settings=QUICK) == 0


def test_errors_are_measured_again_only_when_asked(clips: list[Video], marked: list[str], tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    run(clips, out, settings=QUICK)
    assert run(clips, out, settings=QUICK, retry=True) == 1
    assert len(read_rows(out)) == 3


def test_other_strengths_are_other_rows(clips: list[Video], marked: list[str], tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    run(clips, out, settings=QUICK)
    assert run(clips, out, settings=replace(QUICK, strength="strong")) == 3
    assert {row["strength"] for row in read_rows(out)} == {"balanced", "strong"}


def test_another_metric_is_measured_on_rows_that_lack_it(
    clips: list[Video], marked: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "rows.csv"
    run(clips, out, settings=QUICK)
    more = replace(QUICK, metrics=("ssim",))
    assert run(clips, out, settings=more) == 3
    rows = {row["clip"]: row for row in read_rows(out)}
    assert len(rows) == 3
    assert rows["one.mkv"]["ssim"]
    assert rows["one.mkv"]["luma_psnr"]  # what was there is not lost
    assert run(clips, out, settings=more) == run(clips, out, settings=QUICK) == 0


def test_a_metric_that_fails_takes_nothing_from_a_row(
    clips: list[Video], marked: list[str], tmp_path: Path
) -> None:
    """MS-SSIM needs frames of 176 lines."""
    out, told = tmp_path / "rows.csv", list[str]()
    good = [clip for clip in clips if clip.id != "bad.mp4"]
    run(good, out, settings=QUICK)
    before = {row["clip"]: row for row in read_rows(out)}
    more = replace(QUICK, metrics=("msssim",))
    assert run(good, out, settings=more, on_row=lambda row: told.append(row["error"])) == 2
    assert told == ["bad-input", "bad-input"]
    for one in read_rows(out):
        same = before[one["clip"]]
        assert (one["luma_psnr"], one["rgb_psnr"], one["error"]) == (same["luma_psnr"], same["rgb_psnr"], "")
        assert failures(one)["msssim"].startswith("bad-input: Expected frames of 176 x 176 or more for MS-SSIM")
        assert "--metrics psnr,msssim " in one["command"]
    assert run(good, out, settings=more) == 0


def test_a_metric_that_fails_is_named_and_alone_measured_again(
    clips: list[Video], marked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, tried = tmp_path / "rows.csv", list[str]()
    good = [clip for clip in clips if clip.id == "one.mkv"]
    settings = replace(QUICK, metrics=("psnr", "ssim", "flicker"))
    measure = running_module.measure

    def noted(*frames: Footage, metrics: Sequence[str], **options: object) -> dict[str, float]:
        tried.extend(metrics)
        return measure(*frames, metrics=metrics, **options)  # type: ignore[arg-type]

    def broken(*frames: Footage, metrics: Sequence[str], **options: object) -> dict[str, float]:
        if metrics[0] == "ssim":
            raise MemoryError("no room; none")
        return noted(*frames, metrics=metrics, **options)

    monkeypatch.setattr(running_module, "measure", broken)
    assert run(good, out, settings=settings) == 1
    (row,) = read_rows(out)
    assert (row["error"], row["ssim"], failures(row)) == ("", "", {"ssim": "internal: MemoryError: no room; none"})
    assert row["luma_psnr"]
    assert row["flicker"]
    assert "- one.mkv (genwm): ssim: internal: MemoryError: no room; none" in summary([row])
    monkeypatch.setattr(running_module, "measure", noted)
    tried.clear()
    assert run(good, out, settings=settings) == 0
    assert run(good, out, settings=settings, retry=True) == 1
    assert tried == ["ssim"]  # the others are there
    (again,) = read_rows(out)
    assert again["ssim"]
    assert again["failed"] == ""
    assert [again[name] for name in ("luma_psnr", "flicker", "command")] == [
        row[name] for name in ("luma_psnr", "flicker", "command")
    ]
    assert run(good, out, settings=settings, retry=True) == 0


def test_where_every_metric_fails_the_row_has_the_error(
    clips: list[Video], marked: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "rows.csv"
    good = [clip for clip in clips if clip.id == "one.mkv"]
    assert run(good, out, settings=replace(QUICK, metrics=("msssim",))) == 1
    assert [row["error"] for row in read_rows(out)] == ["bad-input"]
    assert "- one.mkv (genwm): msssim: bad-input: Expected frames of 176" in summary(read_rows(out))
    assert run(good, out, settings=QUICK) == 1  # another metric is another matter
    (row,) = read_rows(out)
    assert row["luma_psnr"]
    assert set(failures(row)) == {"msssim"}


def test_rows_by_other_versions_are_measured_anew(clips: list[Video], marked: list[str], tmp_path: Path) -> None:
    """Figures by two versions of the code are no row."""
    out = tmp_path / "rows.csv"
    run(clips, out, settings=QUICK)
    old = {row["clip"]: row | {"versions": "genwm 0"} for row in read_rows(out)}
    old["one.mkv"] |= {"luma_psnr": "1.0"}
    # A figure that cannot be had again, as MS-SSIM needs frames of 176 lines.
    old["two.mkv"] |= {"msssim": "0.5", "command": old["two.mkv"]["command"].replace("psnr", "psnr,msssim")}
    tables.rewrite(out, COLUMNS, ([row[name] for name in COLUMNS] for row in old.values()))
    assert run(clips, out, settings=replace(QUICK, metrics=("ssim",))) == 2
    new = {row["clip"]: row for row in read_rows(out)}
    assert float(new["one.mkv"]["luma_psnr"]) > 40
    assert new["one.mkv"]["ssim"]
    assert new["one.mkv"]["versions"] != "genwm 0"
    assert new["two.mkv"] == old["two.mkv"]


def test_packages_of_metrics_that_a_row_has_are_needed_too(
    clips: list[Video], marked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "rows.csv"
    run(clips, out, settings=QUICK)
    with_vmaf = [row | {"command": row["command"].replace("psnr", "psnr,vmaf"), "versions": "genwm 0"}
                 for row in read_rows(out)]  # fmt: skip
    tables.rewrite(out, COLUMNS, ([row[name] for name in COLUMNS] for row in with_vmaf))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingExtraError):
        run(clips, out, settings=replace(QUICK, metrics=("ssim",)))
    assert read_rows(out) == with_vmaf


@pytest.mark.parametrize(("changed", "said"), [({"frames": 3}, "frames 3"), ({"seed": 1}, "seed 1")])
def test_other_frames_and_seeds_do_not_continue_a_table(
    clips: list[Video], marked: list[str], tmp_path: Path, changed: dict[str, int], said: str
) -> None:
    out = tmp_path / "rows.csv"
    run(clips, out, settings=QUICK)
    before = out.read_bytes()
    with pytest.raises(OutputError, match=f"^Expected rows with {said} in "):
        run(clips, out, settings=replace(QUICK, **changed))  # type: ignore[arg-type]
    assert out.read_bytes() == before


def test_another_clip_of_the_same_name_does_not_continue_a_table(
    folder: Path, clips: list[Video], marked: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "rows.csv"
    run(clips, out, settings=QUICK)
    (tmp_path / "one.mkv").write_bytes((folder / "two.mkv").read_bytes())
    with pytest.raises(OutputError, match=r"^Expected the clip one\.mkv that "):
        run([Video(path=tmp_path / "one.mkv", id="one.mkv")], out, settings=QUICK)


def test_a_clip_that_was_mended_is_measured(
    folder: Path, clips: list[Video], marked: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "rows.csv"
    run(clips, out, settings=QUICK)
    (tmp_path / "bad.mp4").write_bytes((folder / "one.mkv").read_bytes())
    assert run([Video(path=tmp_path / "bad.mp4", id="bad.mp4")], out, settings=QUICK) == 1
    assert {row["clip"]: row["error"] for row in read_rows(out)}["bad.mp4"] == ""


def test_the_first_tables_go_on_and_so_do_the_published(clips: list[Video], marked: list[str], tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    run(clips, out, settings=QUICK)
    names = COLUMNS[: COLUMNS.index("message") + 1]
    tables.rewrite(out, names, ([row[name] for name in names] for row in read_rows(out)))
    assert run(clips, out, settings=QUICK) == 0
    published = Path(__file__).parents[2] / "docs" / "results" / "quality.csv"
    rows = read_rows(published)
    listed = [Video(path=Path("gone"), id=row["clip"]) for row in rows if row["strength"] == "balanced"]
    copy = tmp_path / "published.csv"
    copy.write_bytes(published.read_bytes())
    assert run(listed, copy, settings=Settings()) == 0
    assert read_rows(copy) == rows


def test_a_fault_of_the_mark_is_a_row_and_the_rest_goes_on(
    clips: list[Video], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object) -> list[Planes]:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(running_module, "mark_planes", broken)
    out = tmp_path / "rows.csv"
    assert run(clips, out, settings=QUICK) == 3
    assert {row["error"] for row in read_rows(out)} == {"internal", "not-media"}
    assert "RuntimeError: two lines" in {row["message"] for row in read_rows(out)}


def test_worker_processes_give_the_same_kind_of_rows(folder: Path, tmp_path: Path) -> None:
    bad = [Video(path=folder / name, id=name) for name in ("bad.mp4", "missing.mp4", "gone.mp4")]
    out = tmp_path / "rows.csv"
    assert run(bad, out, settings=QUICK, processes=2) == 3
    assert {row["clip"]: row["error"] for row in read_rows(out)} == {
        "bad.mp4": "not-media",
        "missing.mp4": "not-found",
        "gone.mp4": "not-found",
    }


def test_the_real_mark_is_measured(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    run([Video(path=folder / "two.mkv", id="two.mkv")], out, settings=QUICK)
    (row,) = read_rows(out)
    assert row["error"] == ""
    assert 30 < float(row["luma_psnr"]) < 60


def test_a_file_of_other_columns_is_left_alone(clips: list[Video], tmp_path: Path) -> None:
    out = tmp_path / "other.csv"
    out.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="columns"):
        run(clips, out, settings=QUICK)
    assert out.read_text() == "a,b\n1,2\n"


def test_a_full_disk_is_said_in_one_sentence(
    clips: list[Video], marked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match="free some space"):
        run(clips, tmp_path / "rows.csv", settings=QUICK)


def test_unknown_names_are_refused(clips: list[Video], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="method of genwm, dwtDct, dwtDctSvd, rivaGan"):
        run(clips, tmp_path / "rows.csv", methods=("other",))
