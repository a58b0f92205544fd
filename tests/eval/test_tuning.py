"""Variants of the constants on one tiny clip: what is measured, that nothing stays changed, and the table."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from eval import tables, tuning
from eval.corpus import Video, list_videos
from eval.tuning import COLUMNS, CONFIGS, Config, Row, at_equal_visibility, centre, constants, known_z, overridden
from genwm.errors import InputError, OutputError
from genwm.lattice import embed, pilots, tile
from genwm.marking import Mark, Marker
from genwm.video import Planes, read_planes, write_video
from tests.clips import KEY, PAYLOAD, make_clip

NAMES = ["current", "blind to hue", "blind to shade", "flatter colour mask", "chroma .015-.06", "chroma .02-.10",
         "less luma", "luma only", "tile 128", "tile 256"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("clips")
    make_clip(path / "clip.mp4", frames=10)
    return path


@pytest.fixture(scope="module")
def video(folder: Path) -> Video:
    return list_videos(folder)[0]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """ColorVideoVDP is slow and an extra of its own; here visibility is any number that grows with the change."""

    def visible(reference: np.ndarray, test: np.ndarray, *, fps: float, displays: tuple[str, ...]) -> dict[str, float]:
        assert fps == 25
        assert reference.shape == test.shape == (8, 256, 320, 3)
        change = float(np.abs(reference.astype(float) - test).mean())
        return {name: 10 - change * (index + 1) / 10 for index, name in enumerate(reversed(displays))}

    monkeypatch.setattr(tuning, "jod", visible)


# --- Constants


def test_the_named_variants() -> None:
    assert list(CONFIGS) == NAMES
    texts = {name: constants(config) for name, config in CONFIGS.items()}
    assert "\n" not in texts["current"]
    # A variant may be what the modules hold now; no two others are alike.
    others = [text for name, text in texts.items() if name != "current"]
    assert len(set(others)) == len(others)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_stays_changed(name: str) -> None:
    before = constants(Config(name="")), vars(tile).copy(), vars(embed).copy(), len(tile.layout().kx)
    with overridden(CONFIGS[name]):
        for values, module in ((CONFIGS[name].tile, tile), (CONFIGS[name].mask, embed)):
            assert {key: getattr(module, key) for key in values} == dict(values)
    assert (constants(Config(name="")), vars(tile), vars(embed), len(tile.layout().kx)) == before


def test_constants_come_back_after_an_error() -> None:
    before = tile.TILE
    with pytest.raises(KeyError), overridden(CONFIGS["tile 128"]):
        raise KeyError
    assert before == tile.TILE
    assert np.hypot(tile.layout().kx, tile.layout().ky).max() < 0.5 * before


def test_the_lattice_follows_the_constants() -> None:
    many, few = len(tile.layout().kx), sum(map(len, pilots._pilots().index))
    with overridden(CONFIGS["tile 256"]):
        assert len(tile.layout().kx) > many
        assert sum(map(len, pilots._pilots().index)) > few
        assert tile.tiles(KEY, PAYLOAD).shape == (3, 256, 256)
    with overridden(CONFIGS["luma only"]):
        assert set(tile.layout().plane) == {0}
        assert not tile.tiles(KEY, PAYLOAD)[1:].any()
    assert tile.tiles(KEY, PAYLOAD).shape == (3, tile.TILE, tile.TILE)


def test_variants_change_only_what_they_name() -> None:
    for band, less in zip(tile.BANDS, CONFIGS["less luma"].tile["BANDS"], strict=True):
        assert less.rms == pytest.approx(band.rms * (1 if band.plane else 0.65))
    for band, moved in zip(tile.BANDS, CONFIGS["chroma .015-.06"].tile["BANDS"], strict=True):
        assert (moved.low, moved.high) == ((0.015, 0.06) if band.plane else (band.low, band.high))
        assert moved.rms == band.rms


# --- Measures


def test_z_of_noise_is_standard_normal() -> None:
    rng = np.random.default_rng(3)
    amplitude = rng.uniform(0.1, 2, 50)
    signs = (rng.choice([-1, 1], 50) + 1j * rng.choice([-1, 1], 50)) * math.sqrt(0.5)
    noise = (rng.normal(size=(2000, 50)) + 1j * rng.normal(size=(2000, 50))) * math.sqrt(0.5)
    z = [known_z(values, signs, amplitude) for values in noise]
    assert np.mean(z) == pytest.approx(0, abs=0.1)
    assert np.std(z) == pytest.approx(1, abs=0.07)


def test_z_leaves_out_what_the_picture_cannot_hold() -> None:
    values, signs, amplitude = np.array([2 + 0j, 0]), np.ones(2, complex), np.array([1.0, 5.0])
    assert known_z(values, signs, amplitude) == pytest.approx(2 * math.sqrt(2))
    assert math.isnan(known_z(values[1:], signs[1:], amplitude[1:]))


@pytest.mark.parametrize("size", [(320, 256), (160, 128), (162, 128)])
def test_a_resized_copy_is_read_at_its_known_size(video: Video, size: tuple[int, int]) -> None:
    from eval.attacks.geometry import resized

    marker = Marker(Mark(KEY, PAYLOAD, strength="strong"), 320, 256)
    copy = BytesIO()
    marked = [resized(marker.planes(frame), width=size[0], height=size[1]) for frame in read_planes(video.path)]
    write_video(copy, marked, fps=25, crf=18, threads=1)
    copy.seek(0)
    right = tuning.survived(copy, KEY, PAYLOAD, width=320, height=256)
    assert list(right) == ["", "_y", "_u", "_v"]
    assert right[""] > 12
    copy.seek(0)
    wrong = tuning.survived(copy, KEY, PAYLOAD ^ (1 << 64) - 1, width=320, height=256)
    assert wrong[""] < 0.75 * right[""]  # the pilots, a good half of the mark, are the same


def test_the_centre_of_a_frame() -> None:
    luma = np.arange(24 * 32, dtype=np.uint16).astype(np.uint8).reshape(24, 32)
    chroma = np.arange(12 * 16, dtype=np.uint8).reshape(12, 16)
    part = centre(Planes(luma, chroma, chroma, 0.0, 0), side=12)
    assert np.array_equal(part.y, luma[6:18, 10:22])
    assert np.array_equal(part.u, chroma[3:9, 5:11])
    assert centre(Planes(luma, chroma, chroma, 0.0, 0)).y.shape == (24, 32)


@pytest.mark.usefixtures("quick")
def test_a_clip_gives_one_row_a_variant(video: Video) -> None:
    rows = tuning.measure(video, [CONFIGS[name] for name in ("current", "luma only")], frames=9)
    assert [row["config"] for row in rows] == ["current", "luma only"]
    current, luma = rows
    assert tuple(current) == COLUMNS
    assert not current["error"], current["message"]
    assert (current["width"], current["height"], current["frames"], current["fps"]) == ("320", "256", "9", "25.0000")
    assert float(current["d_fhd"]) > float(current["d_4k"]) > 0
    assert 35 < float(current["luma_psnr"]) < 60
    assert float(current["z_crf30"]) > float(current["z_crf40"])
    assert float(current["z_crf30"]) > 4
    assert luma["z_crf30"] == luma["z_crf30_y"]
    assert luma["z_crf30_u"] == luma["z_half_v"] == ""
    assert current["constants"] == constants(CONFIGS["current"]) != luma["constants"]


def test_a_bad_clip_is_a_row_with_its_error(tmp_path: Path) -> None:
    path = tmp_path / "bad.mp4"
    path.write_bytes(b"this is no video")
    (row,) = tuning.measure(Video(path=path, id="bad.mp4"), [CONFIGS["current"]])
    assert row["error"] == "not-media"
    assert row["message"]


# --- Runs


def row(config: str, clip: str, **values: object) -> Row:
    known = {"config": config, "clip": clip, "max_frames": "40", "seed": "0", "constants": "{}", "luma_psnr": "50"}
    return dict.fromkeys(COLUMNS, "") | known | {name: str(value) for name, value in values.items()}


def test_rows_survive_a_torn_line(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    tables.prepare(out, COLUMNS)
    tables.append(out, [row("current", "a", error="internal", message='two\nlines, "quoted"').values()])
    tables.append(out, [row("current", "a", d_4k=0.1).values()])
    with out.open("ab") as file:
        file.write(b'current,b,"torn')
    assert tuning.read_rows(out) == [row("current", "a", d_4k=0.1)]
    tables.prepare(out, COLUMNS)
    tables.append(out, [row("current", "c").values()])
    assert [item["clip"] for item in tuning.read_rows(out)] == ["a", "c"]


def test_another_table_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "other.csv"
    out.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="tuning run"):
        tuning.read_rows(out)


def test_a_run_resumes(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pycvvdp", reason="a run is not tested: it needs the extra 'quality'")
    out = tmp_path / "out.csv"
    arguments = ["--videos", str(folder), "--out", str(out), "--configs", "current", "--min-short-side", "0"]
    first = CliRunner().invoke(tuning.main, [*arguments, "--frames", "4"])
    assert first.exit_code == 0, first.output
    (measured,) = tuning.read_rows(out)
    assert not measured["error"], measured["message"]
    assert 0 < float(measured["d_4k"]) < 2
    assert "| current | 1 |" in first.stdout
    before = out.read_bytes()
    page = tmp_path / "page.md"
    again = CliRunner().invoke(tuning.main, [*arguments, "--frames", "4", "--summary", str(page)])
    assert again.exit_code == 0, again.output
    assert out.read_bytes() == before
    assert page.read_text() == first.stdout.removesuffix("\n")


def test_a_table_is_of_one_clip_under_each_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pycvvdp", reason="a run is not tested: it needs the extra 'quality'")
    out, one, other = tmp_path / "out.csv", folder / "clip.mp4", tmp_path / "clip.mp4"

    def measured(video: Video, configs: list[Config], *, frames: int, seed: int) -> list[Row]:
        same = {"max_frames": str(frames), "seed": str(seed), "sha256": video.content}
        return [row(config.name, video.id, constants=constants(config), **same) for config in configs]

    monkeypatch.setattr(tuning, "measure", measured)
    first, second = (CONFIGS[name] for name in ("current", "luma only"))

    def run(path: Path, config: Config) -> int:
        return tuning.run([Video(path=path, id="clip.mp4")], out, configs=[config], processes=1)

    assert run(one, first) == 1
    other.write_bytes(b"another")
    with pytest.raises(OutputError, match=r"^Expected the clip clip\.mp4 that "):
        run(other, second)
    names = [name for name in COLUMNS if name != "sha256"]  # as the first tables were
    tables.rewrite(out, names, ([cells[name] for name in names] for cells in tuning.read_rows(out)))
    assert [run(other, config) for config in (first, second)] == [0, 1]
    assert sorted(cells["sha256"] for cells in tuning.read_rows(out)) == ["", Video(path=other, id="").content]


@pytest.mark.parametrize("names", ["currant", ","])
def test_unknown_variants_are_named(names: str, tmp_path: Path) -> None:
    arguments = ["--videos", str(tmp_path), "--out", str(tmp_path / "out.csv"), "--configs", names]
    result = CliRunner().invoke(tuning.main, arguments)
    assert result.exit_code == 2
    assert "luma only" in " ".join(result.output.split())


# --- Summary


def test_scaling_follows_the_measured_law() -> None:
    assert at_equal_visibility(10, 0.10) == pytest.approx(10)
    # Twice the amplitude: twice the z at 2^1.85 times the visibility is no better a mark.
    assert at_equal_visibility(20, 0.10 * 2**1.85) == pytest.approx(10, rel=0.01)
    assert math.isnan(at_equal_visibility(10, 0))


def test_the_summary_compares_variants() -> None:
    z = {f"z_{attack}{plane}": 12 for attack in tuning.SURVIVED for plane in tuning.PLANES}
    rows = [
        row("current", "a", d_fhd=0.3, d_4k=0.1, **z),
        row("current", "b", d_fhd=0.1, d_4k=0.1, **(z | {"z_crf40": 6})),
        row("luma only", "a", d_fhd=0.2, d_4k=0.2, **(z | {"z_crf40_u": "", "z_crf40_v": ""})),
        row("luma only", "c", error="not-media", message="No."),
    ]
    text = tuning.summary(rows)
    assert "| current | 2 | 0.200 / 0.300 | 0.100 / 0.100 | 50.0 / 50.0 |" in text
    assert "| 9.00 / 6.00 | 12.0, 12.0, 12.0 | 9.00 |" in text
    assert "| 12.00 / 12.00 | 12.0, -, - | 8.25 |" in text
    assert "The 1 clip that all variants were measured on" in text
    assert "- c (luma only): not-media: No." in text


def test_the_summary_keeps_earlier_constants_apart() -> None:
    rows = [row("current", "a", d_fhd=1, d_4k=1, constants=text) for text in ('{"TILE":192}', '{"TILE":200}')]
    text = tuning.summary(rows)
    assert '- current #1: `{"TILE":192}`\n- current #2: `{"TILE":200}`\n' in text


def test_the_summary_of_nothing() -> None:
    assert "All clips measured" in tuning.summary([])
