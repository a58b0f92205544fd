"""``genwm verify``: one record for each file whatever it is, an exit status one can rely on, and honest words."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

import detectors.watermark
from detectors.commands.verify import describe
from detectors.record import Record, verify_file
from genwm import Key, cli
from genwm.errors import KeyMissingError
from genwm.keys import Keyring
from genwm.video import write_image, write_video
from tests.clips import KEY, PAYLOAD, audio_only, make_clip, marked, scene

HEX = f"{PAYLOAD:016x}"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A marked and a plain clip and a marked still, an empty file, sound alone, and no file at all."""
    folder = tmp_path_factory.mktemp("files")
    paths = {name: folder / file for name, file in {
        "marked": "marked.mp4", "plain": "plain.mp4", "still": "still.png", "empty": "empty.mp4", "sound": "sound.m4a",
        "missing": "missing.mp4", "folder": "a folder", "pipe": "pipe",
    }.items()}  # fmt: skip
    write_video(paths["marked"], marked(scene(456, 256, 16)), fps=25, crf=18, preset="veryfast")
    make_clip(paths["plain"], width=456, height=256, frames=8)
    write_image(paths["still"], marked(scene(640, 360, 1))[0])
    paths["empty"].touch()
    audio_only(paths["sound"])
    paths["folder"].mkdir()
    os.mkfifo(paths["pipe"])
    return paths


@pytest.fixture(autouse=True)
def ring(own_keyring: Path) -> Keyring:
    """A keyring that holds the key of the marked files, and another."""
    secrets = {"studio": KEY.secret, "other": bytes(range(1, 33))}
    own_keyring.parent.mkdir()
    own_keyring.write_text(json.dumps({"schema": "genwm.keyring/1", "keys": [
        {"name": name, "secret": secret.hex(), "created": KEY.created, "retired": name == "studio"}
        for name, secret in secrets.items()
    ]}))  # fmt: skip
    own_keyring.chmod(0o600)
    return Keyring.load(own_keyring)


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, list[Any], str]:
    """Exit status, the objects on stdout, and stderr."""
    status = cli.run(["verify", *map(str, args)])
    out, err = capsys.readouterr()
    return status, [json.loads(line) for line in out.splitlines()], err


# --- records


def test_the_record_of_a_marked_clip(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    status, (record,), err = run(capsys, files["marked"], "--json")
    assert (status, err) == (0, "")
    content = files["marked"].read_bytes()
    assert set(record) == {"schema", "input", "watermark", "synthetic", "provenance", "verdict", "reasons", "warnings",
                           "contradictions", "policy", "settings", "duplicate_of", "error", "timing", "versions"}
    assert record["schema"] == "genwm.record/1"
    assert 1 <= record["input"].pop("frames_read") <= 16
    assert record["input"] == {
        "path": str(files["marked"]), "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content),
        "container": "mp4", "codec": "h264", "width": 456, "height": 256, "fps": 25.0, "duration": 0.64,
    }  # fmt: skip
    mark = record["watermark"]
    assert (mark["status"], mark["key"], mark["payload"], mark["segments"]) == ("detected", "studio", HEX, [])
    assert mark["log10_p"] < -6
    assert mark["geometry"] == {"scale": 1.0, "rotation": 0.0, "flip": False, "aspect": 1.0}
    assert (record["verdict"], record["error"], record["synthetic"]) == ("watermark_detected", None, None)
    assert record["provenance"] == {
        "c2pa": "not_checked", "registry": "not_checked", "signer": None, "declares_generated": None,
        "names_payload": None,
    }  # fmt: skip
    assert {"decode", "total"} <= set(record["timing"])
    assert {"genwm"} <= set(record["versions"])
    assert all(isinstance(sentence, str) and sentence for sentence in record["reasons"])


def test_the_record_of_an_unmarked_clip(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    status, (record,), _ = run(capsys, files["plain"], "--json")
    assert (status, record["verdict"], record["error"]) == (1, "no_evidence", None)
    mark = record["watermark"]
    assert (mark["status"], mark["key"], mark["payload"], mark["geometry"]) == ("not_detected", None, None, None)
    assert -3 < mark["log10_p"] <= 0


def test_the_record_of_a_still(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    status, (record,), _ = run(capsys, files["still"], "--json")
    assert (status, record["watermark"]["payload"]) == (0, HEX)
    source = record["input"]
    assert (source["codec"], source["fps"], source["duration"], source["frames_read"]) == ("png", None, None, 1)


@pytest.mark.parametrize(
    ("name", "code"),
    [("empty", "empty-file"), ("sound", "no-video-stream"), ("missing", "not-found"), ("folder", "not-media"),
     ("pipe", "not-media")],
)  # fmt: skip
def test_the_record_of_a_bad_file(
    files: dict[str, Path], name: str, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, (record,), err = run(capsys, files[name], "--json")
    assert (status, err) == (2, "")
    assert (record["verdict"], record["error"]["code"], record["watermark"]) == ("error", code, None)
    assert record["error"]["message"].startswith("Expected ")
    assert record["input"]["path"] == str(files[name])
    is_file = name in ("empty", "sound")
    assert (record["input"]["sha256"] is not None, record["input"]["bytes"] is not None) == (is_file, is_file)


def test_every_file_yields_one_record_in_order(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    names = ["empty", "marked", "missing", "plain", "sound"]
    status, records, _ = run(capsys, *(files[name] for name in names), "--json")
    assert status == 2
    assert [record["input"]["path"] for record in records] == [str(files[name]) for name in names]
    assert [record["verdict"] for record in records] == [
        "error", "watermark_detected", "error", "no_evidence", "error"]  # fmt: skip


def test_a_fault_of_ours_stops_no_other_file(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = detectors.watermark.read_watermark

    def fails(source: Any, **options: Any) -> Any:
        if source == str(files["plain"]):
            raise ZeroDivisionError("a fault")
        return real(source, **options)

    monkeypatch.setattr("detectors.scan.single.read_watermark", fails)
    status, records, err = run(capsys, files["plain"], files["marked"], "--json")
    assert (status, err) == (2, "")
    assert records[0]["error"] == {"code": "internal", "message": "ZeroDivisionError: a fault"}
    assert records[1]["verdict"] == "watermark_detected"
    monkeypatch.setenv("GENWM_DEBUG", "1")
    assert "Traceback" in run(capsys, files["plain"], "--json")[2]


def test_records_are_checked_and_cannot_be_changed(files: dict[str, Path]) -> None:
    record = verify_file(files["still"], keys=[KEY])
    assert Record.model_validate_json(record.to_json()) == record
    with pytest.raises(ValidationError):
        record.verdict = "error"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Record.model_validate({**json.loads(record.to_json()), "verdict": "real"})
    assert Record.model_validate({**json.loads(record.to_json()), "surplus": 1}) == record  # of a later version


def test_names_of_other_encodings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n.mp4")
    Path(name).touch()
    for path in (name, name + "x"):
        status, (record,), _ = run(capsys, path, "--json")
        assert (status, record["verdict"]) == (2, "error")
        assert "\\xff" in record["input"]["path"] or "\\udcff" in record["input"]["path"]
        assert run(capsys, path)[0] == 2


# --- exit status


@pytest.mark.parametrize(
    ("names", "status"),
    [
        (["marked"], 0),
        (["marked", "still"], 0),
        (["marked", "plain"], 1),
        (["plain", "marked"], 1),
        (["plain", "empty"], 2),
        (["empty", "marked"], 2),
    ],
)
def test_the_worst_file_decides(
    files: dict[str, Path], names: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, *(files[name] for name in names))[0] == status


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        (["inconclusive"], 3),
        (["inconclusive", "watermark_detected"], 3),
        (["inconclusive", "no_evidence"], 1),
        (["inconclusive", "no_evidence", "error"], 2),
    ],
)
def test_inconclusive_is_worse_than_found_and_better_than_none(
    verdicts: list[str], status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = iter(verdicts)

    def pretend(path: str, **options: Any) -> Record:
        return Record.model_validate({
            "input": {"path": path}, "verdict": next(waiting), "timing": {}, "versions": {}, "schema": "genwm.record/1",
        })  # fmt: skip

    monkeypatch.setattr("detectors.record.verify_file", pretend)
    assert run(capsys, *verdicts, "--json")[0] == status


# --- words


def test_words_for_people_go_to_stderr(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, *(files[name] for name in ("marked", "plain", "empty")))
    assert (status, out) == (2, [])
    assert f"{files['marked']}: watermark found" in err
    assert HEX in err
    assert "studio" in err
    assert f"{files['plain']}: no watermark found" in err
    assert "no evidence that the video was not generated" in err
    assert f"{files['empty']}: error[empty-file]: Expected" in err
    assert "Traceback" not in err


def test_a_name_gives_the_terminal_no_commands(
    ring: Keyring, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "esc\x1b]0;owned\x07\x1b[31m.mp4"
    (tmp_path / name).touch()
    assert cli.run(["verify", name]) == 2
    err = capsys.readouterr().err
    assert r"esc\x1b]0;owned\x07\x1b[31m.mp4: error[empty-file]" in err
    assert not set(err) & set("\x07\x1b")
    assert cli.run(["verify", name, "--key", "\x1b[31mred"]) == 2
    assert "\x1b" not in capsys.readouterr().err
    assert cli.run(["verify", name, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["input"]["path"] == name


def test_nothing_is_ever_called_real(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    words = run(capsys, files["plain"], files["marked"])[2] + json.dumps(run(capsys, files["plain"], "--json")[1])
    words = words.replace(str(files["plain"].parent), "").lower()
    for claim in ("real", "authentic", "genuine", "human-made", "not generated by"):
        assert claim not in words


def test_words_say_what_was_done_to_the_picture(tmp_path: Path) -> None:
    picture = marked(scene(640, 360, 1))[0]
    write_image(tmp_path / "cut.png", np.ascontiguousarray(picture[30:318, 60:572, :][:, ::-1]))
    lines = "\n".join(describe(verify_file(tmp_path / "cut.png", keys=[KEY])))
    assert "mark 1.25 times as large as in an uncut copy" in lines
    assert "mirrored" in lines


def test_the_timeline_of_a_frame_and_of_a_still(tmp_path: Path) -> None:
    picture = marked(scene(640, 360, 1))
    write_image(tmp_path / "still.png", picture[0])
    found = verify_file(tmp_path / "still.png", keys=[KEY], timeline=True).watermark
    assert found is not None
    assert (found.status, found.segments) == ("detected", ())
    write_video(tmp_path / "one.mp4", picture, fps=25, crf=10)
    lines = "\n".join(describe(verify_file(tmp_path / "one.mp4", keys=[KEY], timeline=True)))
    assert "0.000 - 0.040 s: key studio" in lines


def test_the_timeline_of_an_animated_webp(tmp_path: Path) -> None:
    first, *others = map(Image.fromarray, marked(scene(456, 256, 16)))
    first.save(tmp_path / "in.webp", save_all=True, append_images=others, duration=80, quality=90)
    record = verify_file(tmp_path / "in.webp", keys=[KEY], timeline=True)
    assert (record.verdict, record.input.codec, record.input.fps) == ("watermark_detected", "webp", 12.5)
    assert record.watermark is not None
    assert [(part.start, part.end, part.payload) for part in record.watermark.segments] == [(0.0, 1.28, HEX)]


def test_small_pictures_are_warned_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "small.png", scene(96, 64, 1)[0])
    status, (record,), _ = run(capsys, tmp_path / "small.png", "--json")
    assert (status, record["verdict"]) == (1, "no_evidence")
    assert any("64" in warning for warning in record["warnings"])
    assert "Warning" in run(capsys, tmp_path / "small.png")[2]


# --- keys and options


def test_one_key_or_several(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, files["marked"], "--key", "studio")[0] == 0
    assert run(capsys, files["marked"], "--key", "other")[0] == 1
    assert run(capsys, files["marked"], "--key", "other", "--key", "studio")[0] == 0


def test_keys_that_are_not_there(
    files: dict[str, Path], ring: Keyring, capsys: pytest.CaptureFixture[str]
) -> None:
    status, (record,), err = run(capsys, files["marked"], "--key", "nobody", "--json")
    assert (status, record["error"]["code"]) == (2, "key-missing")
    ring.path.unlink()
    status, (record,), err = run(capsys, files["marked"], "--json")
    assert (status, record["error"]["code"]) == (2, "key-missing")
    assert "genwm keys new" in err
    with pytest.raises(KeyMissingError):
        verify_file(files["marked"], keys=[])


def test_a_keyring_that_cannot_be_read(
    files: dict[str, Path], ring: Keyring, capsys: pytest.CaptureFixture[str]
) -> None:
    ring.path.write_text("{")
    status, (record,), _ = run(capsys, files["marked"], "--json")
    assert (status, record["error"]["code"]) == (2, "bad-keyring")


def test_the_timeline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    footage = scene(456, 256, 30, seed=2)
    write_video(tmp_path / "spliced.mp4", np.concatenate([footage, marked(footage)]), fps=12, crf=18, preset="veryfast")
    status, (record,), _ = run(capsys, tmp_path / "spliced.mp4", "--timeline", "--json")
    (segment,) = record["watermark"]["segments"]
    assert status == 0
    assert (segment["key"], segment["payload"]) == ("studio", HEX)
    assert segment["start"] == pytest.approx(2.5, abs=0.5)
    assert segment["end"] == pytest.approx(5.0, abs=0.5)
    assert segment["log10_p"] < -6
    assert f"5.0 s: key studio, payload {HEX}" in run(capsys, tmp_path / "spliced.mp4", "--timeline")[2]


def test_files_are_required(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys)[0] == 2


def test_reading_never_loads_torch(files: dict[str, Path], own_keyring: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from genwm import cli; "
        f"status = cli.run(['verify', {str(files['marked'])!r}]); print(status, 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["0", "False"]


def test_many_keys_name_the_right_one(files: dict[str, Path]) -> None:
    keys = [Key(f"decoy-{number}", bytes([number] * 32), KEY.created) for number in range(5)]
    record = verify_file(files["marked"], keys=[*keys, KEY])
    assert record.watermark is not None
    assert (record.watermark.key, record.watermark.payload) == ("studio", HEX)
