"""Reads a file in a worker; a file called after a fault brings that fault about, as a broken decoder would."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path
from typing import Any

from detectors.scan.single import Scanned, examine
from detectors.scan.worker import address_space


def faulty_examine(path: str, settings: Any, **options: Any) -> Scanned:
    match Path(path).stem:
        case "segfault":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "leave":
            os._exit(3)
        case "sleep":
            time.sleep(600)
        case "busy":
            while True:
                pass
        case "flood":
            scanned = examine(path, settings, **options)
            return Scanned(scanned.record.model_copy(update={"warnings": ("x" * 4_000_000,)}))
        case "other":
            scanned = examine(path, settings, **options)
            source = scanned.record.input.model_copy(update={"path": "another"})
            return Scanned(scanned.record.model_copy(update={"input": source}))
        case "memory":  # what an allocation that fails does inside the reader
            bytearray(settings.limits.memory_bytes + (address_space() or 0))
        case "write":
            Path(path).with_suffix(".written").write_bytes(bytes(10))
        case "killed-once":
            flag = Path(path).with_suffix(".flag")
            if not flag.exists():
                flag.mkdir()
                os.kill(os.getpid(), 9)
        case "killed":
            os.kill(os.getpid(), 9)
    return examine(path, settings, **options)
