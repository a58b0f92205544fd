"""One file -> one record: the same content and settings, the same record; whatever is wrong is in it."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from pydantic import ValidationError

import detectors
from detectors import read_watermark
from detectors.record import InputRecord, Record, SuspectRecord, SyntheticRecord, json_schema
from detectors.scan import Limits, Settings, scan
from detectors.scan.pages import _heat
from detectors.scan.settings import available
from detectors.scan.single import _moments, _pictures, examine
from detectors.synthetic import classify
from detectors.synthetic.canonical import collect
from genwm import Key
from genwm.errors import InputError, KeyMissingError
from genwm.keys import Keyring
from genwm.video import probe, read_rgb, write_image, write_video
from tests.clips import KEY, PAYLOAD, marked, scene
from tests.detectors.scan.records import record_of

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "marked.mp4"
    write_video(path, marked(scene(456, 256, 12)), fps=25, crf=18, preset="veryfast")
    return path


def test_a_record_says_how_it_was_made(clip: Path) -> None:
    settings = Settings(keys=(KEY,))
    record = scan(clip, settings)
    assert record.watermark is not None
    assert (record.verdict, record.watermark.payload) == ("watermark_detected", f"{PAYLOAD:016x}")
    assert (record.settings, record.policy) == (settings.digest, "default")
    assert {"genwm", "watermark"} <= set(record.versions)
    assert record.timing["total"] > 0
    assert record.timing["hash"] + record.timing["decode"] + record.timing["search"] <= record.timing["total"]
    assert Record.from_json(record.to_json()) == record


def test_the_scan_of_a_file_is_pure(clip: Path) -> None:
    # The classifier's own encode is not the same to the bit on every run: its score may differ a little.
    settings = Settings(keys=(KEY,), timeline=True)
    one, other = (scan(clip, settings).model_dump(exclude={"timing", "synthetic", "reasons"}) for _ in range(2))
    assert one == other
    reading = read_watermark(clip, keys=[KEY])
    assert one["watermark"]["log10_p"] == pytest.approx(reading.log10_p, abs=0.01)


def test_the_package_can_be_called(clip: Path) -> None:
    import detectors.scan as package
    from detectors import scan as function

    assert package(clip, Settings(keys=(KEY,))).verdict == "watermark_detected"  # type: ignore[operator]
    assert function(clip, Settings(keys=(KEY,))).verdict == "watermark_detected"


@pytest.mark.parametrize("path", [np.zeros((2, 8, 8, 3), np.uint8), None, b"clip.mp4"])
def test_what_is_no_path_is_refused(path: Any, clip: Path) -> None:
    with pytest.raises(InputError, match=f"^Expected the path of a file, got a {type(path).__name__}; "):
        scan(path, Settings(keys=(KEY,)))
    with pytest.raises(InputError, match=r"^Expected Settings, got a str; "):
        scan(clip, "strict")  # type: ignore[arg-type]


def test_names_of_the_package() -> None:
    assert detectors.__all__ == sorted(detectors.__all__)
    assert all(getattr(detectors, name) is not None for name in detectors.__all__)
    assert not [name for name in detectors.__all__ if name not in dir(detectors)]
    with pytest.raises(AttributeError, match="nothing"):
        detectors.nothing  # noqa: B018


def test_settings_come_from_the_keyring_by_default(
    clip: Path, own_keyring: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyMissingError, match="genwm keys new"):
        scan(clip, Settings.load(detectors=("watermark",)))
    monkeypatch.setattr("genwm.keys.secrets.token_bytes", bytes)  # one key in a thousand would be a hint
    Keyring.load().new("another")
    record = scan(clip)
    assert record.verdict == "no_evidence"
    assert "of the key tried" in record.reasons[0]
    assert Settings.load(key_names=["another", "another"]).keys == Settings.load().keys
    with pytest.raises(KeyMissingError):
        Settings.load(key_names=["studio"])


def test_the_digest_follows_what_a_record_depends_on() -> None:
    base = Settings(keys=(KEY,))
    renewed = Key(KEY.name, bytes(32), KEY.created)
    others = [
        Settings(), Settings(keys=(renewed,)), Settings(keys=(KEY,), timeline=True),
        Settings(keys=(KEY,), limits=Limits(time_s=1)), Settings(keys=(KEY,), detectors=("watermark",)),
        Settings(keys=(KEY,), policy=base.policy.model_copy(update={"name": "mine"})),
        Settings(keys=(KEY,), registry="one.sqlite3"), Settings(keys=(KEY,), registry="two.sqlite3"),
    ]  # fmt: skip
    digests = {settings.digest for settings in [base, *others]}
    assert len(digests) == 1 + len(others)
    assert pickle.loads(pickle.dumps(base)).digest == base.digest == Settings(keys=(KEY,)).digest
    assert Settings(keys=(KEY,), pictures=3).digest == base.digest
    assert KEY.secret.hex() not in json.dumps(base.describe()) + repr(base)


@pytest.mark.skipif("synthetic" not in available(), reason="needs the classifier's weights")
def test_the_classifier_shares_the_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an unmarked clip the search reads every frame: the classifier sees those, and opens no file."""
    write_video(tmp_path / "plain.mp4", scene(456, 256, 100, seed=3), fps=25, crf=23, preset="veryfast")
    alone = classify(tmp_path / "plain.mp4")
    opened: list[Any] = []

    def reads(source: Any, *collector: Any, **options: Any) -> Any:
        opened.append(source)
        return collect(source, *collector, **options)

    monkeypatch.setattr("detectors.synthetic.inference.collect", reads)
    record = scan(tmp_path / "plain.mp4", Settings(keys=(KEY,)))
    assert opened == []
    assert record.synthetic is not None
    assert record.synthetic.model == alone.model
    assert [(part.start, part.end, part.place) for part in record.synthetic.segments] == [
        (round(part.start_s, 3), round(part.stop_s, 3), part.place) for part in alone.segments]  # fmt: skip
    assert record.synthetic.probability == pytest.approx(alone.probability, abs=0.1)
    # Without keys, or where the mark is found at a glance, it reads for itself.
    alone_again = scan(tmp_path / "plain.mp4", Settings(detectors=("synthetic",))).synthetic
    assert opened
    assert alone_again is not None
    assert alone_again.probability == pytest.approx(alone.probability, abs=0.1)


@pytest.mark.skipif("synthetic" not in available(), reason="needs the classifier's weights")
def test_a_classifier_that_fails_costs_its_own_part_alone(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any, **options: Any) -> Any:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr("detectors.synthetic.inference.judge", fails)
    record = scan(clip, Settings(keys=(KEY,)))
    assert (record.verdict, record.synthetic) == ("watermark_detected", None)
    assert any("a fault" in warning for warning in record.warnings)
    failing = scan(clip, Settings(detectors=("synthetic",)))
    assert failing.error is not None
    assert failing.error.code == "internal"


@pytest.mark.skipif("synthetic" not in available(), reason="needs the classifier's weights")
def test_what_was_looked_at_is_told_in_displayed_pixels(tmp_path: Path) -> None:
    path = tmp_path / "wide.mp4"
    write_video(path, scene(320, 256, 36, seed=3), fps=12, crf=23, preset="veryfast", sample_aspect=Fraction(2))
    scanned = examine(path, Settings(detectors=("synthetic",), pictures=1))
    record, (picture,) = scanned.record, scanned.pictures
    assert record.synthetic is not None
    part = record.synthetic.segments[0]
    (stored, *_) = classify(path, stability=False).segments
    top, left, height, width = stored.place
    assert (record.input.width, record.input.height, part.place) == (640, 256, (top, 2 * left, height, 2 * width))
    assert 'viewBox="0 0 640 256" preserveAspectRatio="none"' in _heat(picture, record)


def test_a_still_cannot_be_judged_and_that_is_no_hint(tmp_path: Path) -> None:
    write_image(tmp_path / "still.png", scene(456, 256, 1)[0])
    record = scan(tmp_path / "still.png", Settings(keys=(KEY,)))
    assert record.verdict == "no_evidence"
    if record.synthetic is not None:
        assert any("could not judge" in reason for reason in record.reasons)


def test_pictures_are_the_first_frames_at_their_moments(clip: Path) -> None:
    pictures = examine(clip, Settings(keys=(KEY,), detectors=("watermark",), pictures=4)).pictures
    times_s = [time_s for time_s, _ in read_rgb(clip)]
    moments = [(probe(clip).duration_s or 0) * share for share in (0.125, 0.375, 0.625, 0.875)]
    assert [picture.time_s for picture in pictures] == [
        round(next(time_s for time_s in times_s if time_s >= moment - 1e-6), 3) for moment in moments
    ]
    assert len({picture.jpeg for picture in pictures}) == 4


def test_a_file_that_ends_early_has_a_picture(tmp_path: Path, clip: Path) -> None:
    """Its header claims half a second, and the first moment to look at is behind its only frame."""
    with av.open(str(clip)) as source:
        first = next(packet for packet in source.demux(video=0))
        end = first.pos + first.size
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[:end])
    scanned = examine(tmp_path / "cut.mp4", Settings(keys=(KEY,), detectors=("watermark",), pictures=4))
    assert [picture.time_s for picture in scanned.pictures] == [0.0]
    assert any("stops at" in text or "ends after" in text for text in scanned.record.warnings)


def test_a_slow_clip_shows_no_picture_twice(tmp_path: Path) -> None:
    write_video(tmp_path / "slow.mp4", scene(96, 64, 3), fps=1, crf=18, preset="veryfast")
    scanned = examine(tmp_path / "slow.mp4", Settings(keys=(KEY,), detectors=("watermark",), pictures=6))
    assert [picture.time_s for picture in scanned.pictures] == [1.0, 2.0]


def test_pictures_show_different_moments() -> None:
    parts = [SuspectRecord(start=start, end=start + 2, probability=score) for start, score in ((4, 0.2), (0, 0.9))]
    score = SyntheticRecord(status="no_evidence", probability=0.5, model="m", segments=tuple(parts))
    record = record_of("a.mp4", synthetic=score, input=InputRecord(path="a.mp4", duration=10.0))
    assert _moments(record, 1) == [1.0]
    moments = _moments(record, 6)
    assert len(moments) == 6
    assert moments == sorted(moments)
    assert {1.0, 5.0} < set(moments)
    assert min(np.diff(moments)) > 1
    assert max(np.diff([0.0, *moments, 10.0])) < 2.6


@pytest.mark.skipif("synthetic" not in available(), reason="needs the classifier's weights")
def test_heat_maps_of_the_most_suspicious_moments_where_there_is_suspicion(clip: Path) -> None:
    parts = tuple(SuspectRecord(start=start, end=start + 0.1, probability=probability)
                  for start, probability in ((0, 0.7), (0.15, 0.2), (0.3, 0.9)))  # fmt: skip
    asked = Settings(keys=(KEY,), pictures=3)
    suspicious: dict[str, list[bool]] = {}
    for status in ("likely_synthetic", "inconclusive", "no_evidence"):
        score = SyntheticRecord(status=status, probability=0.6, model="m", segments=parts)
        record = record_of("a.mp4", synthetic=score, input=InputRecord(path="a.mp4", duration=0.48, fps=25))
        pictures = _pictures(clip, record, asked, 1)
        suspicious[status] = [bool(picture.heat) for picture in pictures]
        assert _pictures(clip, record, replace(asked, pictures=0), 1) == ()
    assert suspicious == {"likely_synthetic": [True, False, True], "inconclusive": [True, False, True],
                          "no_evidence": [False] * 3}  # fmt: skip


@pytest.mark.skipif("synthetic" not in available(), reason="needs the classifier's weights")
def test_a_heat_map_that_cannot_be_made_costs_no_record(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("detectors.synthetic.explain.heat_map", fails)
    score = SyntheticRecord(status="likely_synthetic", probability=0.6, model="m",
                            segments=(SuspectRecord(start=0, end=0.1, probability=0.7),))
    record = record_of("a.mp4", synthetic=score, input=InputRecord(path="a.mp4", duration=0.48, fps=25))
    pictures = _pictures(clip, record, Settings(keys=(KEY,), pictures=2), 1)
    assert [picture.heat for picture in pictures] == [(), ()]


def test_evidence_pictures(clip: Path) -> None:
    pictures = examine(clip, Settings(keys=(KEY,), pictures=3)).pictures
    assert [picture.time_s for picture in pictures] == sorted({picture.time_s for picture in pictures})
    assert len(pictures) == 3
    assert all(picture.jpeg.startswith(b"\xff\xd8") for picture in pictures)


def test_a_stream_that_shows_up_midway(tmp_path: Path) -> None:
    """FLV declares a stream by its first packet: PyAV 18 does not know a stream that the header did not bring."""
    path = tmp_path / "clip.flv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("flv", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 456, 256, "yuv420p", 4
        for pixels in marked(scene(456, 256, 12), strength="strong"):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuv420p")))
        output.mux(stream.encode(None))
    content = path.read_bytes()
    place = 13  # behind the header and the size of the tag before the first
    for _ in range(8):
        place += 15 + int.from_bytes(content[place + 1 : place + 4], "big")
    sound = b"\x08" + (5).to_bytes(3, "big") + content[place + 4 : place + 8] + bytes(3) + b"\x2f" + bytes(4)
    path.write_bytes(content[:place] + sound + (16).to_bytes(4, "big") + content[place:])
    record = scan(path, Settings(keys=(KEY,), timeline=True))
    assert (record.error, record.verdict) == (None, "watermark_detected")
    assert record.watermark is not None
    assert record.watermark.segments[-1].end > 0.4


def test_the_schema_in_the_docs_is_current() -> None:
    written = json.loads((ROOT / "docs" / "schema" / "record-1.json").read_text())
    assert written == json_schema(), "write docs/schema/record-1.json anew from detectors.record.json_schema()"


def test_a_record_keeps_no_unknown_field_and_no_unknown_verdict(clip: Path) -> None:
    """A later version may have added fields: they are left out, here as in what a worker process answers."""
    document: dict[str, Any] = json.loads(scan(clip, Settings(keys=(KEY,))).to_json())
    assert json.loads(Record.model_validate({**document, "surprise": 1}).to_json()) == document
    with pytest.raises(ValidationError):
        Record.model_validate({**document, "verdict": "real"})


BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "diffusers", "transformers", "timm", "cv2", "ultralytics"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
"""


def test_a_scan_needs_no_torch(clip: Path, tmp_path: Path, own_keyring: Path) -> None:
    """Neither this process nor its workers can import it: both load the blocker before anything else."""
    (tmp_path / "blocker.py").write_text(BLOCK)
    code = f"""
import sys
sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]
import blocker
from detectors.scan import Pool, Settings, pool, scan
pool._READER = ("tests.detectors.scan.without_torch", "examine")
from genwm import Key
settings = Settings(keys=(Key("studio", bytes(range(32)), {KEY.created!r}),))
with Pool(settings, workers=1) as workers:
    print(workers.scan({str(clip)!r}).verdict, scan({str(clip)!r}, settings).verdict, "torch" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.stdout.split(), result.stderr) == (["watermark_detected"] * 2 + ["False"], "")
