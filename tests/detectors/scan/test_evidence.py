"""Manifest and registry beside the mark: each kept apart in the record, contradictions told, all read in a worker."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("c2pa")

from detectors.scan import Pool, Settings, scan, single
from genwm import provenance
from genwm.errors import InputError, NotFoundError
from genwm.marking import Mark
from genwm.registry import Entry, Registry, fingerprint
from genwm.video import write_video
from tests.certificates import Certificates, make_certificates
from tests.clips import KEY, PAYLOAD, Frames, marked, scene

ENTRY = Entry(payload=PAYLOAD, key_id=KEY.id, model="a model", prompt_sha256="0" * 64)


@pytest.fixture(scope="module")
def frames() -> Frames:
    return scene(456, 256, 12)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, frames: Frames) -> Path:
    path = tmp_path_factory.mktemp("clips") / "marked.mp4"
    write_video(path, marked(frames), fps=25, crf=18, preset="veryfast")
    return path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def signed(clip: Path, tmp_path: Path, certificates: Certificates) -> Path:
    path = tmp_path / "signed.mp4"
    shutil.copy(clip, path)
    provenance.sign(path, certificates.chain, certificates.key, mark=Mark(KEY, PAYLOAD))
    return path


def test_a_signed_and_marked_clip(signed: Path, certificates: Certificates) -> None:
    settings = Settings(keys=(KEY,), trust=str(certificates.authority))
    with Pool(settings, workers=1) as pool:
        record = pool.scan(signed)
    assert record.verdict == "watermark_detected"
    assert (record.provenance.c2pa, record.provenance.declares_generated) == ("valid", True)
    assert record.provenance.names_payload == f"{PAYLOAD:016x}"
    assert "manifest" in record.reasons[0]
    assert "mark" in record.reasons[1]
    assert "genwm tests, signer" in record.reasons[0]
    assert record.contradictions == ()
    assert "c2pa" in record.versions
    assert settings.digest != Settings(keys=(KEY,)).digest


def test_a_manifest_alone_is_evidence_of_its_own(signed: Path, certificates: Certificates) -> None:
    only = Settings(detectors=("provenance",))
    record = scan(signed, only)
    assert (record.watermark, record.provenance.c2pa, record.verdict) == (None, "valid_untrusted", "inconclusive")
    trusting = Settings(detectors=("provenance",), trust=str(certificates.authority))
    assert scan(signed, trusting).verdict == "likely_synthetic"


def test_a_changed_file(signed: Path) -> None:
    content = bytearray(signed.read_bytes())
    place = content.rindex(b"mdat") + 200
    content[place] ^= 1
    signed.write_bytes(content)
    record = scan(signed, Settings(keys=(KEY,)))
    assert record.provenance.c2pa == "invalid"
    assert record.verdict == "watermark_detected"
    assert any("does not hold" in warning for warning in record.warnings)


def test_a_manifest_that_names_another_mark(clip: Path, tmp_path: Path, certificates: Certificates) -> None:
    path = tmp_path / "other.mp4"
    shutil.copy(clip, path)
    provenance.sign(path, certificates.chain, certificates.key, mark=Mark(KEY, 7))
    record = scan(path, Settings(keys=(KEY,)))
    assert record.verdict == "inconclusive"
    assert f"{7:016x}" in record.contradictions[0]
    assert f"{PAYLOAD:016x}" in record.contradictions[0]


def test_the_registry_tells_a_transplant_from_a_match(clip: Path, frames: Frames, tmp_path: Path) -> None:
    own, other = Registry(tmp_path / "own.sqlite3"), Registry(tmp_path / "other.sqlite3")
    own.add(ENTRY, fingerprint(frames))
    other.add(ENTRY, fingerprint(scene(456, 256, 12, seed=9)))
    record = scan(clip, Settings(keys=(KEY,), registry=str(own.path)))
    assert (record.provenance.registry, record.verdict) == ("match", "watermark_detected")
    with Pool(Settings(keys=(KEY,), registry=str(other.path)), workers=1) as pool:
        record = pool.scan(clip)
    assert (record.provenance.registry, record.verdict) == ("transplant", "inconclusive")
    assert "another clip" in record.contradictions[0]
    assert scan(clip, Settings(keys=(KEY,))).provenance.registry == "not_checked"


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_negative_is_compared_as_the_picture_it_was_made_of(frames: Frames, tmp_path: Path, mirrored: bool) -> None:
    own = Registry(tmp_path / "own.sqlite3")
    own.add(ENTRY, fingerprint(frames))
    pictures = 255 - marked(frames)
    write_video(tmp_path / "negative.mp4", pictures[:, :, ::-1] if mirrored else pictures, fps=25, crf=18)
    record = scan(tmp_path / "negative.mp4", Settings(keys=(KEY,), registry=str(own.path), timeline=True))
    assert (record.provenance.registry, record.verdict) == ("match", "watermark_detected")
    assert "the picture is a negative of the marked one" in record.warnings
    assert record.watermark is not None
    assert [part.payload for part in record.watermark.segments] == [f"{PAYLOAD:016x}"]


def test_what_cannot_be_asked_is_said_at_once(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "broken").write_text("no registry")
    with pytest.raises(InputError, match="registry"):
        scan(clip, Settings(keys=(KEY,), registry=str(tmp_path / "broken")))
    with pytest.raises(NotFoundError, match="certificates"):
        scan(clip, Settings(keys=(KEY,), trust=str(tmp_path / "none.pem")))


@pytest.mark.parametrize("change", [{"scale": 1.8}, {"scale": 0.7}, {"rotation": -5.0}, {"rotation": 90.0}])
def test_what_cannot_be_compared_is_not_accused(
    clip: Path, frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, float]
) -> None:
    """A crop, bars or a turn, as the mark's geometry tells them, make any picture unlike the registered one."""
    other = Registry(tmp_path / "other.sqlite3")
    other.add(ENTRY, fingerprint(scene(456, 256, 12, seed=9)))
    real = single.read_watermark

    def read(*args: Any, **options: Any) -> Any:
        reading = real(*args, **options)
        assert reading.geometry is not None
        return replace(reading, geometry=replace(reading.geometry, **change))

    monkeypatch.setattr(single, "read_watermark", read)
    record = scan(clip, Settings(keys=(KEY,), registry=str(other.path)))
    assert (record.provenance.registry, record.verdict) == ("unknown", "watermark_detected")
    assert record.contradictions == ()
