"""A scanner that needs no video: its record follows from the first word of a file. ``python -m`` serves with it:
``FOLDER PORT``, and for one of several servers ``FILES DATABASE``, which it then has in common with the others; what it
scans is told in ``scanned`` in FILES."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from detectors.record import (
    ErrorRecord,
    InputRecord,
    Record,
    SegmentRecord,
    SuspectRecord,
    SyntheticRecord,
    WatermarkRecord,
)
from detectors.scan import Fingerprint, Scanned, Settings
from detectors.scan.single import Picture
from detectors.service.config import Config
from detectors.service.serving import run
from tests.clips import KEY

#: The smallest JPEG that browsers show: one grey pixel.
HEAT = ((0.0, 0.0, 1.0, 0.5, 0.9), (0.0, 0.5, 1.0, 0.5, 0.1))
JPEG = bytes.fromhex(
    "ffd8ffdb004300010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101"
    "01010101010101010101010101010101010101ffc0000b080001000101011100ffc4001f00000105010101010101000000000000"
    "00000102030405060708090a0bffc400b5100002010303020403050504040000017d010203000411051221314106135161072271"
    "14328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a434445464748494a5354555657"
    "58595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8"
    "b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9faffda0008010100003f00fbfc"
    "ffd9"
)


class StubScanner:
    """Scans in threads; a file that begins with ``slow`` takes two seconds, any other ``delay_s``."""

    def __init__(self, settings: Settings, workers: int | None = None, *, delay_s: float = 0.0) -> None:
        self.settings, self.workers, self.delay_s = settings, workers or 2, delay_s
        self.seen: list[str] = []
        self._threads = ThreadPoolExecutor(self.workers)

    def submit(self, path: str | os.PathLike[str], known: Fingerprint | None = None) -> Future[Scanned]:
        return self._threads.submit(self._scan, Path(path))

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _scan(self, path: Path) -> Scanned:
        content = path.read_bytes()
        self.seen.append(content.decode("latin-1"))
        time.sleep(2.0 if content.startswith(b"slow") else self.delay_s)
        if content.startswith(b"fault"):
            raise RuntimeError("the scanner is out of order")
        return Scanned(record_of(path, content, self.settings), (Picture(0.5, JPEG, HEAT), Picture(2.5, JPEG)))


def record_of(path: Path, content: bytes, settings: Settings) -> Record:
    """``mark``: a mark; ``fake``: a score; ``bad``: an error; anything else: no evidence."""
    kind = next((kind for kind in ("mark", "fake", "bad") if content.startswith(kind.encode())), "")
    mark = WatermarkRecord(
        status="detected", key="studio", payload="0123456789abcdef", log10_p=-31.2, geometry=None,
        segments=(SegmentRecord(start=1.0, end=3.0, key="studio", payload="0123456789abcdef", log10_p=-12.0),))
    score = SyntheticRecord(status="likely_synthetic", probability=0.93, model="stub",
                            segments=(SuspectRecord(start=0.0, end=2.0, probability=0.95),))
    return Record(
        input=InputRecord(path=str(path), sha256=hashlib.sha256(content).hexdigest(), bytes=len(content),
                          container="mp4", codec="h264", width=320, height=240, fps=25.0, duration=4.0),
        watermark=mark if kind == "mark" else None, synthetic=score if kind == "fake" else None,
        verdict={"mark": "watermark_detected", "fake": "likely_synthetic", "bad": "error"}.get(kind, "no_evidence"),
        reasons=(f"The file {path} was looked at.",),
        error=ErrorRecord(code="not-media", message=f"Expected a video in {path}.") if kind == "bad" else None,
        policy="default", settings=settings.digest, timing={"decode": 0.0, "total": 0.01}, versions={})


def settings() -> Settings:
    return Settings(keys=(KEY,))


class _TellingScanner(StubScanner):
    """Writes the name of each file that it scans to a list that servers share."""

    def _scan(self, path: Path) -> Scanned:
        with (path.parents[1] / "scanned").open("a") as file:
            file.write(f"{path.name}\n")
        return super()._scan(path)


def main(folder: str, port: str, files: str | None = None, database: str | None = None) -> None:
    config = Config(folder=Path(folder), files=Path(files) if files else None, database=database, secure_cookies=False,
                    min_free_bytes=0, lease_s=30.0 if files is None else 3.0)
    kind, delay_s = (StubScanner, 0.01) if files is None else (_TellingScanner, 0.1)
    run(config, settings(), "127.0.0.1", int(port), lambda given, workers: kind(given, workers, delay_s=delay_s))


if __name__ == "__main__":
    main(*sys.argv[1:])
