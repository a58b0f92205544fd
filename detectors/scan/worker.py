"""The child process that reads files of strangers: one request in, one JSON record out, under limits it cannot lift.

It can write no file and add only so much memory; it ends when its parent does. The parent trusts nothing that it
says: replies are JSON, bounded in size and checked against the record's schema.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import struct
import sys
import threading
import traceback
from importlib import import_module
from typing import BinaryIO

from detectors.scan.settings import Settings
from detectors.scan.single import Scanned

LENGTH = struct.Struct(">Q")
READY = b"ready"
#: Exit status of a worker that ran into its memory limit where no record could be made.
OUT_OF_MEMORY = 77


def main(requests: int, replies: int, lifeline: int) -> None:
    """Serves requests from one file descriptor on another until the first is closed; ``lifeline`` ends with the
    parent."""
    threading.Thread(target=_outlive_no_one, args=(lifeline,), daemon=True).start()
    with os.fdopen(requests, "rb") as source, os.fdopen(replies, "wb") as target:
        settings, threads, (module, name) = pickle.loads(_received(source))
        examine = getattr(import_module(module), name)
        settings.digest  # noqa: B018  what every record needs is worked out before memory is counted
        _warm_up(settings, threads)
        _limit(settings)
        _send(target, READY)
        while message := _received(source):
            path, known = pickle.loads(message)
            try:
                scanned = examine(path, settings, known=known, threads=threads)
                _send(target, _packed(scanned))
            except MemoryError:
                os._exit(OUT_OF_MEMORY)
            except Exception:
                traceback.print_exc()
                os._exit(1)  # at once: what libraries do when the interpreter ends takes its time


def _packed(scanned: Scanned) -> bytes:
    pictures = [
        {"time_s": picture.time_s, "jpeg": base64.b64encode(picture.jpeg).decode(), "heat": picture.heat}
        for picture in scanned.pictures
    ]
    record = scanned.record.model_dump(mode="json", by_alias=True)
    return json.dumps({"record": record, "pictures": pictures}).encode()


def _outlive_no_one(lifeline: int) -> None:
    os.read(lifeline, 1)  # returns when the parent's end closes, however the parent ended
    os._exit(1)


def _received(source: BinaryIO) -> bytes:
    head = source.read(LENGTH.size)
    return source.read(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else b""


def _send(target: BinaryIO, message: bytes) -> None:
    target.write(LENGTH.pack(len(message)) + message)
    target.flush()


def _warm_up(settings: Settings, threads: int) -> None:
    """Loads what the first file would load, so that it counts as ready, not as what a file costs."""
    import numpy as np

    from genwm.lattice import pilots, tile

    tile.layout()
    if settings.asks("provenance"):
        import_module("c2pa")
    if settings.asks("synthetic"):
        from detectors.synthetic import load_model

        load_model(settings.model, threads=threads)
    if settings.keys:
        pilots.pilot_keys(settings.keys)
    np.linalg.inv(np.eye(4))  # starts the linear algebra's own memory pool


def _limit(settings: Settings) -> None:
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if (used := address_space()) is not None:
        ceiling = used + settings.limits.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))


def address_space() -> int | None:
    """Bytes of address space of this process; None where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
