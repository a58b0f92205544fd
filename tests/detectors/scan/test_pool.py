"""The pool: a file that hangs, crashes, floods or eats memory costs its own record and no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import detectors.scan.pool
from detectors.scan import Fingerprint, Limits, Pool, Settings, fingerprint, scan
from detectors.scan.pool import _parsed
from detectors.scan.settings import MIB
from detectors.scan.single import Picture, Scanned
from detectors.scan.worker import _packed
from genwm.errors import KeyMissingError, WorkerError
from genwm.video import write_video
from tests.clips import KEY, PAYLOAD, make_clip, marked, scene

LIMITS = Limits(time_s=20, memory_bytes=600 * MIB, output_bytes=MIB)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "marked.mp4"
    write_video(path, marked(scene(456, 256, 12)), fps=25, crf=18, preset="veryfast")
    return path


@pytest.fixture(scope="module")
def faulty() -> Iterator[Pool]:
    """A pool whose workers fail on files that are called after a fault."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detectors.scan.pool, "_READER", ("tests.detectors.scan.faults", "faulty_examine"))
        with Pool(Settings(keys=(KEY,), limits=LIMITS), workers=1) as pool:
            yield pool


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        ("segfault", "decoder-crashed", "SIGSEGV"),
        ("abort", "decoder-crashed", "SIGABRT"),
        ("leave", "decoder-crashed", "status 3"),
        ("flood", "output-limit", "1 MiB"),
        ("other", "worker-failed", "report"),
        ("memory", "memory-limit", "memory"),
        ("killed", "worker-killed", "fewer workers"),
        ("write", "decoder-crashed", "status 1"),
    ],
)
def test_a_broken_decoder_costs_one_record(
    faulty: Pool, clip: Path, tmp_path: Path, fault: str, code: str, says: str
) -> None:
    bad = tmp_path / f"{fault}.mp4"
    bad.write_bytes(clip.read_bytes())
    record = faulty.scan(bad)
    assert record.error is not None
    assert (record.verdict, record.error.code) == ("error", code)
    assert says in record.error.message
    assert record.error.message.startswith("Expected ")
    assert (record.input.path, record.input.sha256) == (str(bad), fingerprint(clip).sha256)
    if fault == "write":
        assert not (tmp_path / "write.written").stat().st_size
    assert faulty.scan(clip).watermark is not None


@pytest.mark.parametrize("fault", ["sleep", "busy"])
def test_a_file_that_never_ends_is_given_up(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors.scan.pool, "_READER", ("tests.detectors.scan.faults", "faulty_examine"))
    (tmp_path / fault).touch()
    with Pool(Settings(keys=(KEY,), limits=Limits(time_s=0.5)), workers=1) as pool:
        record = pool.scan(tmp_path / fault)
        (process,) = pool.processes() or [0]
    assert record.error is not None
    assert record.error.code == "time-limit"
    assert record.timing["total"] >= 0.5
    assert process == 0


def test_a_worker_killed_from_outside_gets_another_try(faulty: Pool, clip: Path, tmp_path: Path) -> None:
    once = tmp_path / "killed-once.mp4"
    once.write_bytes(clip.read_bytes())
    assert faulty.scan(once).verdict == "watermark_detected"


def test_a_worker_that_died_between_files_costs_nothing(clip: Path) -> None:
    with Pool(Settings(keys=(KEY,)), workers=1) as pool:
        assert pool.scan(clip).verdict == "watermark_detected"
        (process,) = pool.processes()
        os.kill(process, signal.SIGKILL)
        assert pool.scan(clip).verdict == "watermark_detected"
        assert pool.processes() != [process]


def test_pictures_come_back_as_they_were(clip: Path) -> None:
    heat = ((0.0, 0.0, 1.0, 1 / 3, 0.7), (0.0, 1 / 3, 1.0, 2 / 3, 0.3))
    sent = Scanned(scan(clip, Settings(keys=(KEY,))), (Picture(0.5, b"\xff\xd8", heat), Picture(1.5, b"\xff\xd8")))
    known = fingerprint(clip)
    assert _parsed(_packed(sent), sent.record.input.path, known) == sent
    with pytest.raises(ValueError, match="another file"):
        _parsed(_packed(sent), "other.mp4", known)


def test_many_files_through_few_workers(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors.scan.pool, "FILES_A_WORKER", 3)
    with Pool(Settings(keys=(KEY,), pictures=2), workers=2) as pool:
        futures = [pool.submit(path) for path in [clip, tmp_path / "none", tmp_path] * 3]
        found = [future.result() for future in futures]
    assert [scanned.record.verdict for scanned in found] == ["watermark_detected", "error", "error"] * 3
    marked_one = found[0]
    assert marked_one.record.watermark is not None
    assert marked_one.record.watermark.payload == f"{PAYLOAD:016x}"
    assert [picture.jpeg[:3] for picture in marked_one.pictures] == [b"\xff\xd8\xff"] * 2
    assert [scanned.pictures for scanned in found[1:3]] == [(), ()]


def test_pixels_over_the_limit(clip: Path) -> None:
    with Pool(Settings(keys=(KEY,), limits=Limits(pixels=100_000)), workers=1) as pool:
        record = pool.scan(clip)
    assert record.error is not None
    assert record.error.code == "too-large"
    assert "456 x 256" in record.error.message


def test_a_file_that_changes_while_it_is_read(clip: Path, tmp_path: Path) -> None:
    copy = tmp_path / "growing.mp4"
    copy.write_bytes(clip.read_bytes())
    known = fingerprint(copy)
    os.utime(copy, ns=(1, 1))
    with Pool(Settings(keys=(KEY,)), workers=1) as pool:
        record = pool.submit(copy, known).result().record
    assert record.error is not None
    assert record.error.code == "changed-while-read"


def test_workers_that_cannot_start(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors.scan.pool, "_READER", ("tests.detectors.scan.nothing", "here"))
    with Pool(Settings(keys=(KEY,)), workers=1) as pool, pytest.raises(WorkerError, match="GENWM_DEBUG"):
        pool.scan(clip)


def test_closing_leaves_no_process_and_no_waiting_future(clip: Path) -> None:
    pool = Pool(Settings(keys=(KEY,)), workers=1)
    futures = [pool.submit(clip) for _ in range(20)]
    futures[0].result()
    (process,) = pool.processes()
    pool.close()
    assert all(future.done() for future in futures)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(clip)


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    code = f"""
import os, sys
sys.path.insert(0, {os.getcwd()!r})
from detectors.scan import Pool, Settings
from tests.clips import KEY
pool = Pool(Settings(keys=(KEY,)), workers=1)
pool.scan("none")
print(pool.processes()[0], flush=True)
os.kill(os.getpid(), 9)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    worker = int(result.stdout)
    for _ in range(100):
        if not Path(f"/proc/{worker}/cmdline").exists() or not Path(f"/proc/{worker}/cmdline").read_bytes():
            return
        time.sleep(0.05)
    pytest.fail("the worker outlived its parent")


def test_nothing_to_look_for() -> None:
    with pytest.raises(KeyMissingError, match="genwm keys new"):
        Pool(Settings(detectors=("watermark",)))


@pytest.mark.parametrize("name", ["time_s", "memory_bytes", "pixels", "frames", "output_bytes"])
def test_limits_are_above_nothing(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: 0})


def test_a_fingerprint_reads_files_alone(clip: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert fingerprint(tmp_path / "pipe") == fingerprint(tmp_path) == fingerprint(tmp_path / "none") == Fingerprint()
    assert fingerprint(clip).bytes == clip.stat().st_size


def test_a_plain_clip_says_nothing(tmp_path: Path) -> None:
    make_clip(tmp_path / "plain.mp4", width=456, height=256, frames=8)
    with Pool(Settings(keys=(KEY,), detectors=("watermark",)), workers=1) as pool:
        assert pool.scan(tmp_path / "plain.mp4").verdict == "no_evidence"
