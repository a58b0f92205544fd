"""The registry: clips are known again after what uploads go through, and a mark on other pictures is found out."""

from __future__ import annotations

import io
import multiprocessing
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from genwm import registry
from genwm.errors import InputError, OutputError
from genwm.registry import Entry, Registry, fingerprint, fingerprint_of, lookup, similarity
from genwm.video import read_rgb, write_video
from tests.clips import PAYLOAD, Frames, make_clip, scene

ENTRY = Entry(payload=PAYLOAD, key_id="0011223344556677", model="a model", prompt_sha256="0" * 64, file="a.mp4")
CLIP = scene(320, 240, 30)
OTHER = scene(320, 240, 30, seed=5)


def recorded(path: Path) -> Registry:
    made = Registry(path / "registry.sqlite3")
    made.add(ENTRY, fingerprint(CLIP))
    return made


def encoded(frames: Frames, crf: float = 36) -> Frames:
    held = io.BytesIO()
    write_video(held, frames, fps=25, crf=crf, container="mp4", preset="veryfast")
    held.seek(0)
    return np.stack([frame for _, frame in read_rgb(held)])


@pytest.mark.parametrize(
    "copy",
    [CLIP, encoded(CLIP), CLIP[10:], CLIP[::2], CLIP[:, 30:210, 20:276], encoded(CLIP[5:, 50:222, 60:288]),
     CLIP[:, :, 30:270], CLIP[:, :, 90:225], CLIP[:, 40:200],
     encoded(np.pad(CLIP, ((0, 0), (70, 70), (0, 0), (0, 0)), constant_values=16)),
     np.stack([frame[number : 186 + number, 2 * number : 246 + 2 * number] for number, frame in enumerate(CLIP)]),
     CLIP[:, :, ::-1], CLIP // 2 + 20, CLIP[:, ::2, ::3], CLIP[..., 1]],
    ids=["itself", "compressed", "cut in time", "half its frames", "cropped", "all of it", "square",
         "upright", "wide", "with bars", "panned over", "mirrored", "dim",
         "squeezed", "grey"],
)  # fmt: skip
def test_a_copy_matches(tmp_path: Path, copy: Frames) -> None:
    found = recorded(tmp_path).lookup(PAYLOAD, copy)
    assert found.status == "match"
    assert found.entry is not None
    assert (found.entry.model, found.entry.file) == ("a model", "a.mp4")


def test_of_a_larger_crop_the_size_is_taken_from_the_mark(tmp_path: Path) -> None:
    made, copy = recorded(tmp_path), CLIP[:, 60:192, 100:276]  # .55 of each side
    assert made.lookup(PAYLOAD, copy, distorted=True).status == "unknown"
    assert made.lookup(PAYLOAD, copy, distorted=True, scale=1.82).status == "match"
    assert made.lookup(PAYLOAD, OTHER[:, 60:192, 100:276], distorted=True, scale=1.82).status == "unknown"


@pytest.mark.parametrize(
    "pictures", [OTHER, encoded(OTHER), np.full_like(CLIP, 90),
                 np.random.default_rng(0).integers(0, 255, CLIP.shape, dtype=np.uint8)],
    ids=["another scene", "compressed", "flat", "noise"],
)  # fmt: skip
def test_a_mark_on_other_pictures_is_a_transplant(tmp_path: Path, pictures: Frames) -> None:
    found = recorded(tmp_path).lookup(PAYLOAD, pictures)
    assert found.status == "transplant"
    assert recorded(tmp_path).lookup(PAYLOAD, pictures, distorted=True).status == "unknown"


def test_what_is_not_recorded_is_unknown(tmp_path: Path) -> None:
    made = recorded(tmp_path)
    assert made.lookup(PAYLOAD + 1, CLIP) == registry.Finding("unknown")
    assert made.lookup(PAYLOAD, CLIP, key_id="ffff223344556677").status == "unknown"
    assert made.lookup(PAYLOAD, CLIP, key_id=ENTRY.key_id).status == "match"
    assert Registry(tmp_path / "none").lookup(PAYLOAD, CLIP).status == "unknown"
    assert not (tmp_path / "none").exists()


def test_one_payload_may_have_several_clips(tmp_path: Path) -> None:
    made = recorded(tmp_path)
    made.add(Entry(payload=PAYLOAD, key_id=ENTRY.key_id, model="b", prompt_sha256="1" * 64), fingerprint(OTHER))
    assert len(made) == 2
    for clip, model in ((CLIP, "a model"), (OTHER, "b")):
        found = made.lookup(PAYLOAD, clip)
        assert found.entry is not None
        assert (found.status, found.entry.model) == ("match", model)


def test_all_64_bits_are_kept(tmp_path: Path) -> None:
    made = recorded(tmp_path)
    for payload in (0, 2**64 - 1):
        made.add(Entry(payload=payload, key_id="a", model="m", prompt_sha256="p"), fingerprint(CLIP))
        ((entry, prints),) = made.entries(payload)
        assert entry.payload == payload
        assert entry.made_at.endswith("+00:00")
        assert (prints == fingerprint(CLIP)).all()


def test_files_have_the_fingerprint_of_their_frames(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    for count in (1, 30, 70):
        frames = make_clip(path, width=320, height=240, frames=count)
        prints = fingerprint_of(path)
        assert prints.shape == (min(count, 16), 32, 32)
        assert similarity(prints, frames) > 0.9


def test_the_default_is_beside_the_keyring(own_keyring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Registry().path == own_keyring.with_name("registry.sqlite3")
    assert lookup(PAYLOAD, CLIP).status == "unknown"
    monkeypatch.setenv("GENWM_REGISTRY", str(tmp_path / "registry.sqlite3"))
    recorded(tmp_path)
    assert lookup(PAYLOAD, CLIP).status == "match"


def _add(path: Path, first: int) -> None:
    made = Registry(path)
    for payload in range(first, first + 10):
        made.add(Entry(payload=payload, key_id="k", model="m", prompt_sha256="p"), fingerprint(CLIP[:3]))


def test_several_processes_add_at_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    workers = [spawn.Process(target=_add, args=(tmp_path / "r.sqlite3", 10 * number)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(Registry(tmp_path / "r.sqlite3")) == 30


def test_files_that_are_no_registry(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("words " * 500)
    newer = sqlite3.connect(tmp_path / "newer")
    newer.execute("PRAGMA user_version = 7")
    newer.close()
    with pytest.raises(InputError, match="registry that can be read"):
        Registry(tmp_path / "text").lookup(PAYLOAD, CLIP)
    with pytest.raises(OutputError, match="registry that can be written"):
        Registry(tmp_path / "text").check()
    with pytest.raises(InputError, match=r"version 1 at .*, got 7"):
        Registry(tmp_path / "newer").check()
    with pytest.raises(OutputError, match="written"):
        Registry(tmp_path / "text" / "below").check()


def test_what_is_no_clip(tmp_path: Path) -> None:
    for frames in (CLIP[:0], CLIP.astype(float), CLIP[None]):
        with pytest.raises(InputError):
            fingerprint(frames)
    with pytest.raises(InputError, match="Expected a fingerprint"):
        Registry(tmp_path / "r").add(ENTRY, CLIP)
