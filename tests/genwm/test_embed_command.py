"""``genwm embed``: what it writes reads back, what it says is so, and a failure leaves nothing behind."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import stat
import struct
import subprocess
import sys
import time
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genwm import cli
from genwm.commands import embed
from genwm.errors import NotVerifiedError, PayloadError
from genwm.keys import Keyring
from genwm.marking import Mark
from genwm.readback import read_back
from genwm.registry import Registry, similarity
from genwm.video import probe, read_rgb, write_image, write_video
from tests.clips import KEY, PAYLOAD, audio_only, make_clip, marked, psnr, scene

HEX = f"{PAYLOAD:016x}"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """456 x 256, 12 frames, with sound."""
    path = tmp_path_factory.mktemp("clip") / "in.mp4"
    make_clip(path, width=456, height=256, frames=12, audio=True)
    return path


@pytest.fixture
def ring() -> Keyring:
    ring = Keyring.load()
    ring.new("studio")
    return ring


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, Any, str]:
    """Exit status, what stdout holds (parsed JSON or ''), and stderr."""
    status = cli.run([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return status, json.loads(out) if out else "", err


# --- what is written


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("h264", "mp4"), ("hevc", "mp4"), ("vp9", "webm"), ("av1", "mkv"), ("prores", "mov"), ("ffv1", "mkv")],
)
def test_a_payload_goes_round_every_codec(
    tmp_path: Path, clip: Path, ring: Keyring, codec: str, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = clip, tmp_path / f"out.{suffix}"
    if suffix == "webm":  # AAC does not fit into WebM
        source = tmp_path / "silent.mp4"
        make_clip(source, width=456, height=256, frames=12)
    status, record, err = run(capsys, "embed", source, out, "--codec", codec, "--payload", HEX, "--json")
    assert (status, err) == (0, "")
    assert record["log10_p"] < -20
    expected = {
        "schema": "genwm.embed/1", "path": str(out), "key": "studio", "key_id": ring.get("studio").id, "payload": HEX,
        "strength": "balanced", "profile": "colour", "codec": codec, "width": 456, "height": 256, "frames": 12,
        "verified": True, "warnings": [],
    }  # fmt: skip
    assert expected.items() <= record.items()
    status, found, _ = run(capsys, "verify", out, "--json")
    assert status == 0
    assert (found["watermark"]["key"], found["watermark"]["payload"]) == ("studio", HEX)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_still_images(tmp_path: Path, ring: Keyring, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "in.png", tmp_path / f"out.{suffix}"
    write_image(source, scene(640, 360, 1)[0])
    status, record, _ = run(capsys, "embed", source, out, "--payload", HEX, "--json")
    assert (status, record["frames"], record["verified"]) == (0, 1, True)
    status, found, _ = run(capsys, "verify", out, "--json")
    assert (status, found["watermark"]["payload"]) == (0, HEX)


def test_a_marked_clip_can_be_registered(
    tmp_path: Path, clip: Path, ring: Keyring, capsys: pytest.CaptureFixture[str]
) -> None:
    outs = [tmp_path / "one.mp4", tmp_path / "two.mp4"]
    for out, options in zip(outs, ([], ["--register"]), strict=True):
        status, record, _ = run(capsys, "embed", clip, out, "--payload", HEX, *options, "--json")
        assert (status, record["registered"]) == (0, bool(options))
    ((entry, prints),) = Registry().entries(PAYLOAD, key_id=ring.get("studio").id)
    assert (entry.file, entry.model) == ("two.mp4", "")
    assert similarity(prints, [rgb for _, rgb in read_rgb(outs[1])]) > 0.99
    other = np.random.default_rng(0).integers(0, 256, (6, 90, 160, 3), dtype=np.uint8)
    assert Registry().lookup(PAYLOAD, other).status == "transplant"


def test_what_does_not_verify_is_not_registered(
    tmp_path: Path, ring: Keyring, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "in.png", np.full((64, 64, 3), 128, np.uint8))
    status, record, _ = run(capsys, "embed", tmp_path / "in.png", tmp_path / "out.png", "--register", "--json")
    assert (status, record["error"]["code"]) == (2, "not-verified")
    assert len(Registry()) == 0


def test_a_registry_that_takes_nothing_is_told_first(
    tmp_path: Path, clip: Path, ring: Keyring, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("no registry" * 100)
    monkeypatch.setenv("GENWM_REGISTRY", str(tmp_path / "notes.txt"))
    status, record, _ = run(capsys, "embed", clip, tmp_path / "out.mp4", "--register", "--json")
    assert (status, record["error"]["code"]) == (2, "bad-output")
    assert not (tmp_path / "out.mp4").exists()


def test_sound_and_looks_are_kept(tmp_path: Path, clip: Path, ring: Keyring) -> None:
    assert cli.run(["embed", str(clip), str(tmp_path / "out.mp4")]) == 0
    before, after = probe(clip), probe(tmp_path / "out.mp4")
    for name in ("codec", "width", "height", "fps", "has_audio", "color_space", "color_range"):
        assert getattr(after, name) == getattr(before, name)
    pictures = [np.stack([frame for _, frame in read_rgb(path)]) for path in (clip, tmp_path / "out.mp4")]
    assert 36 < psnr(*pictures) < 50


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_rotated_recording_is_marked_as_displayed(
    tmp_path: Path, ring: Keyring, rotation: int, capsys: pytest.CaptureFixture[str]
) -> None:
    make_clip(tmp_path / "in.mp4", width=456, height=256, frames=8, rotation=rotation)
    status, record, _ = run(capsys, "embed", tmp_path / "in.mp4", tmp_path / "out.mp4", "--payload", HEX, "--json")
    assert status == 0
    assert (record["width"], record["height"]) == ((456, 256) if rotation == 180 else (256, 456))
    status, found, _ = run(capsys, "verify", tmp_path / "out.mp4", "--json")
    assert found["watermark"]["payload"] == HEX
    assert found["watermark"]["geometry"] == {"scale": 1.0, "rotation": 0.0, "flip": False, "aspect": 1.0}


@pytest.mark.parametrize("codec", ["hevc", "av1"])
def test_ten_bits_stay_ten(tmp_path: Path, ring: Keyring, codec: Any, capsys: pytest.CaptureFixture[str]) -> None:
    preset = {"hevc": "ultrafast", "av1": "12"}[codec]
    make_clip(tmp_path / "in.mp4", width=456, height=256, frames=8, codec=codec, bit_depth=10, preset=preset)
    status, _, _ = run(capsys, "embed", tmp_path / "in.mp4", tmp_path / "out.mp4", "--payload", HEX)
    assert status == 0
    assert probe(tmp_path / "out.mp4").bit_depth == 10
    assert run(capsys, "verify", tmp_path / "out.mp4", "--json")[1]["watermark"]["payload"] == HEX


def test_pixels_that_are_not_square(tmp_path: Path, ring: Keyring, capsys: pytest.CaptureFixture[str]) -> None:
    from fractions import Fraction

    make_clip(tmp_path / "in.mp4", width=360, height=288, frames=8, sample_aspect=Fraction(16, 11))
    assert run(capsys, "embed", tmp_path / "in.mp4", tmp_path / "out.mp4", "--payload", HEX)[0] == 0
    found = run(capsys, "verify", tmp_path / "out.mp4", "--json")[1]["watermark"]
    assert (found["payload"], found["geometry"]["aspect"]) == (HEX, pytest.approx(1, abs=0.01))


def test_strengths_and_profiles(tmp_path: Path, clip: Path, ring: Keyring, capsys: pytest.CaptureFixture[str]) -> None:
    base = next(iter(read_rgb(clip)))[1]
    quality = []
    for number, options in enumerate((["--strength", "invisible"], [], ["--strength", "strong"])):
        out = tmp_path / f"{number}.mkv"
        assert run(capsys, "embed", clip, out, "--codec", "ffv1", *options)[0] == 0
        quality.append(psnr(next(iter(read_rgb(out)))[1], base))
    assert quality[0] > quality[1] > quality[2]


def test_the_luma_profile(tmp_path: Path, ring: Keyring, capsys: pytest.CaptureFixture[str]) -> None:
    make_clip(tmp_path / "in.mp4", width=640, height=360, frames=12)
    args = "embed", tmp_path / "in.mp4", tmp_path / "out.mp4", "--profile", "luma", "--payload", HEX
    status, record, _ = run(capsys, *args, "--strength", "strong", "--json")
    assert (status, record["profile"], record["verified"]) == (0, "luma", True)
    assert run(capsys, "verify", tmp_path / "out.mp4", "--json")[1]["watermark"]["payload"] == HEX


# --- keys and payloads


def test_the_newest_active_key_is_the_default(
    tmp_path: Path, clip: Path, ring: Keyring, capsys: pytest.CaptureFixture[str]
) -> None:
    ring.new("later")
    ring.new("gone")
    ring.retire("gone")
    assert run(capsys, "embed", clip, tmp_path / "a.mp4", "--json")[1]["key"] == "later"
    assert run(capsys, "embed", clip, tmp_path / "b.mp4", "--key", "studio", "--json")[1]["key"] == "studio"
    status, record, err = run(capsys, "embed", clip, tmp_path / "c.mp4", "--key", "gone", "--json")
    assert (status, record["error"]["code"]) == (2, "key-missing")
    assert "retired" in err


def test_a_random_payload_is_told(
    tmp_path: Path, clip: Path, ring: Keyring, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, "embed", clip, tmp_path / "out.mp4")
    assert (status, out) == (0, "")
    told = re.search(r"payload ([0-9a-f]{16}) \(chosen at random\)", err)
    assert told
    assert "read back" in err
    assert "\x1b" not in err  # no progress bar where nobody watches
    assert run(capsys, "verify", tmp_path / "out.mp4", "--json")[1]["watermark"]["payload"] == told[1]


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("ff", 255), ("0xFF", 255), ("F" * 16, 2**64 - 1), (" 1 ", 1)])
def test_payloads_are_hex(text: str, value: int) -> None:
    assert embed.parse_payload(text) == value


@pytest.mark.parametrize("text", ["", "0x", "xyz", "-1", "1" * 17, "1.5", "1 2", "٣"])
def test_payloads_that_are_not(text: str) -> None:
    with pytest.raises(PayloadError, match=r"^Expected .*, got .*; "):
        embed.parse_payload(text)


def test_without_a_key(tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for args in ([], ["--key", "studio"]):
        status, record, err = run(capsys, "embed", clip, tmp_path / "out.mp4", *args, "--json")
        assert (status, record["error"]["code"]) == (2, "key-missing")
        assert "genwm keys new" in err
    assert os.listdir(tmp_path) == []


# --- the mark is read back


def test_reading_back_needs_the_key_and_gives_the_payload(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", marked(scene(480, 270, 1))[0])
    found = read_back(tmp_path / "a.png", KEY)
    assert (found.payload, found.frames_read) == (PAYLOAD, 1)
    assert found.log10_p < -20
    write_image(tmp_path / "b.png", scene(480, 270, 1)[0])
    found = read_back(tmp_path / "b.png", KEY)
    assert found.payload is None
    assert found.log10_p > -4


@pytest.mark.parametrize("size", [(1, 1), (40, 30), (2, 90)])
def test_a_picture_too_small_to_hold_a_mark_says_so(
    tmp_path: Path, ring: Keyring, size: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "in.png", scene(64, 96, 1)[0][: size[1], : size[0]])
    status, record, err = run(capsys, "embed", tmp_path / "in.png", tmp_path / "out.png", "--json")
    assert (status, record["error"]["code"]) == (2, NotVerifiedError.code)
    assert "too small" in err
    assert "--no-verify" in err
    assert sorted(os.listdir(tmp_path)) == ["in.png", "keyring"]
    status, record, _ = run(capsys, "embed", tmp_path / "in.png", tmp_path / "out.png", "--no-verify", "--json")
    assert (status, record["verified"], record["log10_p"]) == (0, False, None)
    assert probe(tmp_path / "out.png").width == size[0]


def test_compression_that_leaves_no_mark_says_so(
    tmp_path: Path, clip: Path, ring: Keyring, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "out.mp4"
    old.write_bytes(b"old")
    status, _, err = run(capsys, "embed", clip, old, "--crf", "51", "--overwrite")
    assert status == 2
    assert f"error[{NotVerifiedError.code}]" in err
    assert "--crf" in err
    assert old.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["keyring", "out.mp4"]


def test_a_still_is_advised_what_a_still_has(
    tmp_path: Path, ring: Keyring, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "in.png", np.zeros((320, 320, 3), np.uint8))
    args = "embed", tmp_path / "in.png", tmp_path / "out.jpg", "--quality", "1", "--json"
    status, record, _ = run(capsys, *args)
    assert (status, record["error"]["code"]) == (2, NotVerifiedError.code)
    assert "; raise --strength or --quality, or write" in record["error"]["message"]


def test_what_is_lost_is_a_warning_that_names_the_output(
    tmp_path: Path, ring: Keyring, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "in.png", tmp_path / "out.png"
    Image.fromarray(scene(480, 270, 1)[0][..., 0].astype(np.uint16) * 257).save(source)
    told = f"{out} has 8 bits a channel of the 16 of {source}"
    status, record, err = run(capsys, "embed", source, out, "--json")
    assert (status, record["warnings"], err) == (0, [told], "")
    status, _, err = run(capsys, "embed", source, out, "--overwrite")
    assert (status, err.splitlines()[0]) == (0, f"Warning: {told}")


@pytest.mark.skipif(sys.platform == "darwin", reason="the file system takes names in UTF-8 only")
def test_names_in_another_encoding_are_escaped_as_verify_does(
    tmp_path: Path, ring: Keyring, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "in.png", scene(480, 270, 1)[0])
    out = os.fsdecode(os.fsencode(tmp_path) + b"/n\xff.png")
    status, record, _ = run(capsys, "embed", tmp_path / "in.png", out, "--json")
    assert (status, record["path"]) == (0, str(tmp_path / r"n\xff.png"))
    assert run(capsys, "verify", out, "--json")[1]["input"]["path"] == record["path"]
    assert "\\xff.png" in run(capsys, "embed", tmp_path / "in.png", out)[2]  # it exists


def test_the_longest_name_that_the_disk_takes(
    tmp_path: Path, clip: Path, ring: Keyring, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "embed", clip, tmp_path / ("x" * 251 + ".mp4"), "--json")[0] == 0
    status, record, _ = run(capsys, "embed", clip, tmp_path / ("x" * 252 + ".mp4"), "--json")
    assert (status, record["error"]["code"]) == (2, "bad-output")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_run_that_is_told_to_end_leaves_nothing(tmp_path: Path, ring: Keyring, name: str) -> None:
    frames = np.tile(scene(640, 360, 6), (25, 1, 1, 1))
    write_video(tmp_path / "in.mp4", frames, fps=25, crf=18, preset="ultrafast")
    command = [sys.executable, "-m", "genwm", "embed", str(tmp_path / "in.mp4"), str(tmp_path / "out.mp4")]
    usual = partial(signal.signal, getattr(signal, name), signal.SIG_DFL)  # who runs the tests may ignore it
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=usual) as process:
        while process.poll() is None and not list(tmp_path.glob(".*.part.mp4")):
            time.sleep(0.05)
        process.send_signal(getattr(signal, name))
        _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (128 + getattr(signal, name), "")
    assert sorted(os.listdir(tmp_path)) == ["in.mp4", "keyring"]


# --- bad input


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header, data = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), zlib.compress(b"\0" * 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


BAD = {
    "empty.mp4": "empty-file",
    "text.mp4": "not-media",
    "headless.mp4": "truncated",
    "audio.m4a": "no-video-stream",
    "huge.png": "too-large",
    "missing.mp4": "not-found",
    "rgb.tif.png": "unsupported-format",
    "moving.webp.png": "unsupported-format",
    "folder": "not-media",
    "pipe.mp4": "not-media",
    "broken.png": "decode-failed",
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video\n" * 99)
    (folder / "headless.mp4").write_bytes(clip.read_bytes()[:600])
    (folder / "huge.png").write_bytes(png(20_000, 20_000))
    (folder / "broken.png").write_bytes(png(400, 300)[:60])
    first, *others = map(Image.fromarray, scene(96, 64, 3))
    first.save(folder / "rgb.tif.png", "TIFF")
    first.save(folder / "moving.webp.png", "WEBP", save_all=True, append_images=others)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe.mp4")
    audio_only(folder / "audio.m4a")
    return folder


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, bad: Path, ring: Keyring, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / ("out.png" if name.endswith("png") else "out.mp4")
    status, record, err = run(capsys, "embed", bad / name, out, "--json")
    code, message = record["error"]["code"], record["error"]["message"]
    assert status == 2
    assert code == BAD[name] or name == "broken.png"
    assert err == f"error[{code}]: {message}\n"
    assert re.match(r"Expected .*, got .*; ", message)
    assert os.listdir(tmp_path) == ["keyring"]


@pytest.mark.parametrize(
    ("target", "options", "code"),
    [
        ("in.mp4", ["--overwrite"], "output-is-input"),
        ("taken.mp4", [], "output-exists"),
        ("no/such/folder.mp4", [], "bad-output"),
        ("out.txt", [], "unsupported-format"),
        ("out.png", [], "unsupported-format"),
        ("out.gif", [], "unsupported-format"),
        ("out.mp4", ["--quality", "9"], "bad-input"),
        ("out.mp4", ["--crf", "60"], "bad-input"),
        ("out.mkv", ["--codec", "ffv1", "--crf", "20"], "bad-input"),
        ("out.mp4", ["--payload", "xyz"], "bad-payload"),
    ],
)
def test_bad_output(
    tmp_path: Path, clip: Path, ring: Keyring, target: str, options: list[str], code: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    source = tmp_path / "in.mp4"
    source.write_bytes(clip.read_bytes())
    (tmp_path / "taken.mp4").write_bytes(b"old")
    status, record, err = run(capsys, "embed", source, tmp_path / target, *options, "--json")
    assert (status, record["error"]["code"]) == (2, code)
    assert ".part" not in err  # the sentence names the file that was asked for
    assert source.read_bytes() == clip.read_bytes()
    assert (tmp_path / "taken.mp4").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["in.mp4", "keyring", "taken.mp4"]


def test_suffixes_that_are_offered_can_be_written(
    tmp_path: Path, ring: Keyring, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = tmp_path / "in.mp4"
    make_clip(clip, width=64, height=64, frames=2)
    _, record, _ = run(capsys, "embed", clip, tmp_path / "out.xyz", "--json")
    offered = re.findall(r"\.\w+(?=,)", record["error"]["message"].split("got")[0])
    assert len(offered) > 5
    for suffix in offered:
        status, record, _ = run(capsys, "embed", clip, tmp_path / f"out{suffix}", "--no-verify", "--json")
        assert (status, record["path"]) == (0, str(tmp_path / f"out{suffix}"))


@pytest.mark.parametrize("suffix", ["mkv", "png"])
def test_one_pixel(tmp_path: Path, ring: Keyring, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    dot = np.full((1, 1, 3), 90, np.uint8)
    if suffix == "png":
        write_image(source, dot)
    else:
        write_video(source, [dot] * 3, fps=25, codec="ffv1")
    status, record, _ = run(capsys, "embed", source, target, "--json")
    assert (status, record["error"]["code"]) == (2, "not-verified")
    assert "at 1 line it is too small to hold one reliably; use a larger picture" in record["error"]["message"]
    status, record, _ = run(capsys, "embed", source, target, "--no-verify", "--json")
    assert (status, record["width"], record["height"]) == (0, 1, 1)


def test_video_options_are_refused_for_stills(
    tmp_path: Path, ring: Keyring, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "in.png", scene(320, 256, 1)[0])
    for options in (["--codec", "h264"], ["--crf", "20"]):
        status, record, _ = run(capsys, "embed", tmp_path / "in.png", tmp_path / "out.png", *options, "--json")
        assert (status, record["error"]["code"]) == (2, "bad-input")


@pytest.mark.parametrize("options", [["--strength", "loud"], ["--codec", "divx"], ["--crf", "-1"], ["--quality", "0"]])
def test_wrong_calls(tmp_path: Path, clip: Path, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["embed", str(clip), str(tmp_path / "out.mp4"), *options]) == 2
    assert "error[usage]: " in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_keyring_that_cannot_be_read(
    tmp_path: Path, clip: Path, ring: Keyring, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    ring.path.write_bytes(content)
    status, record, err = run(capsys, "embed", clip, tmp_path / "out.mp4", "--json")
    assert (status, record["error"]["code"]) == (2, "bad-keyring")
    assert err.count("\n") == 1
    assert not (tmp_path / "out.mp4").exists()


def test_an_open_keyring_is_refused(
    tmp_path: Path, clip: Path, ring: Keyring, capsys: pytest.CaptureFixture[str]
) -> None:
    ring.path.chmod(stat.S_IRUSR | stat.S_IROTH)
    assert run(capsys, "embed", clip, tmp_path / "out.mp4", "--json")[1]["error"]["code"] == "bad-keyring"


def test_a_full_disk(
    tmp_path: Path, clip: Path, ring: Keyring, full_disk: None, capsys: pytest.CaptureFixture[str]
) -> None:
    status, record, err = run(capsys, "embed", clip, tmp_path / "out.mkv", "--codec", "ffv1", "--json")
    assert (status, record["error"]["code"]) == (2, "disk-full")
    assert "out.mkv" in err
    assert ".part" not in err
    assert os.listdir(tmp_path) == ["keyring"]


# --- the terminal


def test_a_progress_bar_where_somebody_watches(
    tmp_path: Path, clip: Path, ring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    watched = Terminal()
    monkeypatch.setattr("sys.stderr", watched)
    monkeypatch.setenv("TERM", "xterm")
    assert cli.run(["embed", str(clip), str(tmp_path / "out.mp4")]) == 0
    assert "marking" in watched.getvalue()


def test_progress_goes_from_nothing_to_all(tmp_path: Path, clip: Path) -> None:
    seen: list[float] = []
    embed.mark_file(clip, tmp_path / "out.mp4", Mark(KEY, PAYLOAD), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_marking_again_keeps_both_marks(
    tmp_path: Path, clip: Path, ring: Keyring, capsys: pytest.CaptureFixture[str]
) -> None:
    ring.new("second")
    assert run(capsys, "embed", clip, tmp_path / "a.mp4", "--key", "studio", "--payload", "a")[0] == 0
    assert run(capsys, "embed", tmp_path / "a.mp4", tmp_path / "b.mp4", "--key", "second", "--payload", "b")[0] == 0
    for name, payload in (("studio", 10), ("second", 11)):
        found = run(capsys, "verify", tmp_path / "b.mp4", "--key", name, "--json")[1]["watermark"]
        assert found["payload"] == f"{payload:016x}"


def test_help_of_embed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["embed", "--help"]) == 0
    text = capsys.readouterr().out
    for option in ("--key", "--payload", "--strength", "--profile", "--codec", "--crf", "--overwrite", "--no-verify"):
        assert option in text
