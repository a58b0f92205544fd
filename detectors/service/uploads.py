"""A request's body -> a file on the disk: written as it streams in, hashed and measured on the way."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from detectors.record import printable
from detectors.service.config import MIB
from detectors.service.errors import ServiceError, StorageFullError, UnsupportedBodyError, UploadTooLargeError
from detectors.service.models import CONTROL
from genwm.errors import is_disk_full

_FIELD_BYTES = 4096
_JSON_BYTES = 16 * 1024
#: More than what a multipart body may hold beside its file.
_FRAME_BYTES = 64 * 1024


@dataclass(slots=True)
class Upload:
    """What a multipart body held: the file, which lies at ``path``, and the text fields."""

    path: Path
    name: str = ""
    sha256: str = ""
    bytes: int = 0
    fields: dict[str, str] = field(default_factory=dict)


async def read_json(stream: AsyncIterator[bytes], example: str) -> dict[str, Any]:
    """A small JSON object, such as ``example``. Errors: UploadTooLargeError, ServiceError."""
    try:
        document = json.loads(await read_limited(stream, _JSON_BYTES))
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ServiceError(f"Expected a JSON object in UTF-8 such as {example}, got something else; check the body")
    return document


async def read_limited(stream: AsyncIterator[bytes], limit: int) -> bytes:
    """A body of at most ``limit`` bytes. Errors: UploadTooLargeError."""
    body = bytearray()
    async for chunk in stream:
        body += chunk
        if len(body) > limit:
            raise UploadTooLargeError(f"Expected a body of at most {limit} bytes, got more; send less")
    return bytes(body)


async def receive(
    stream: AsyncIterator[bytes], content_type: str, target: Path, *, limit: int, min_free: int, length: int = 0
) -> Upload:
    """Streams a multipart body with one part ``file`` into ``target``, which is on the disk (fsync) when this returns
    and gone when it raises. A body whose announced ``length`` in bytes is too much, or would leave less than
    ``min_free`` bytes on the disk, is refused unread.

    Errors: UnsupportedBodyError, UploadTooLargeError, StorageFullError, ServiceError.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise UnsupportedBodyError("Expected multipart/form-data with a part 'file', or JSON with a 'path', got "
                                   f"{content_type or 'neither'!r}; set the content type")
    if length > limit + _FRAME_BYTES:
        raise _too_large(limit)
    if shutil.disk_usage(target.parent).free - length < min_free:
        raise _no_space()
    part = target.with_name(f".{target.name}.part")
    reader = _Reader(part, limit)
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        async for chunk in stream:
            parser.write(chunk)
            if reader.waiting >= MIB:
                await run_in_threadpool(reader.flush)
        parser.finalize()
        if not reader.complete:
            raise ServiceError("Expected a whole multipart body with a part 'file', got less; send the file under that "
                               "name")
        await run_in_threadpool(reader.finish, target)
    except FormParserError:
        raise ServiceError("Expected a multipart body, got one that cannot be parsed; check how it is made") from None
    except OSError as error:
        if is_disk_full(error):
            raise _no_space() from None
        raise
    finally:
        reader.close()
    return Upload(target, reader.name, reader.hash.hexdigest(), reader.size, reader.fields)


def _no_space() -> StorageFullError:
    return StorageFullError("Expected room on the server's disk for the upload, got none left; try again later")


def _too_large(limit: int) -> UploadTooLargeError:
    return UploadTooLargeError(f"Expected a file of at most {limit / MIB:g} MiB, got a larger one; cut it, or ask "
                               "for a higher limit")


class _Reader:
    """Callbacks of the multipart parser, and the file that they fill."""

    def __init__(self, part: Path, limit: int) -> None:
        self.name, self.size, self.hash, self.complete = "", 0, hashlib.sha256(), False
        self.fields: dict[str, str] = {}
        self._path, self._limit, self._files = part, limit, 0
        self._file = open(part, "xb", buffering=0)  # noqa: SIM115  closed by `close`
        self._buffer = bytearray()
        self._headers: dict[str, str] = {}
        self._header_name, self._header_value = bytearray(), bytearray()
        self._field: bytearray | None = None
        self._field_name = ""

    def callbacks(self) -> Any:
        handlers: dict[str, Callable[..., None]] = {
            "on_part_begin": self._begin, "on_part_data": self._data, "on_part_end": self._end,
            "on_header_field": self._header_field, "on_header_value": self._header_text,
            "on_header_end": self._header_end, "on_headers_finished": self._started, "on_end": self._all,
        }
        return handlers

    @property
    def waiting(self) -> int:
        return len(self._buffer)

    def flush(self) -> None:
        rest = memoryview(self._buffer)
        self.hash.update(rest)
        while rest:
            rest = rest[self._file.write(rest) :]
        rest.release()
        self._buffer = bytearray()

    def finish(self, target: Path) -> None:
        self.flush()
        os.fsync(self._file.fileno())
        os.replace(self._path, target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        self._file.close()
        with suppress(OSError):
            self._path.unlink()

    def _begin(self) -> None:
        self._headers = {}

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_text(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header_name.decode("latin-1").lower()] = self._header_value.decode("utf-8", "replace")
        self._header_name, self._header_value = bytearray(), bytearray()

    def _started(self) -> None:
        message = Message()
        message["Content-Disposition"] = self._headers.get("content-disposition", "").replace("\n", " ")
        self._field_name = str(message.get_param("name", "", "content-disposition"))
        if self._field_name == "file":
            self._files += 1
            if self._files > 1:
                raise ServiceError("Expected one part 'file', got more; submit one file at a time")
            name = message.get_filename() or "upload"
            self.name = printable(name.replace("\\", "/").rsplit("/", 1)[-1])[:200] or "upload"
            if CONTROL.search(self.name):
                raise ServiceError(f"Expected a file name without control characters, got {self.name!r}; rename it")
            self._field = None
        else:
            if len(self.fields) >= 8:
                raise ServiceError("Expected at most 8 fields beside the file, got more; leave some out")
            self._field = bytearray()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._field is not None:
            self._field += data[start:end]
            if len(self._field) > _FIELD_BYTES:
                raise UploadTooLargeError(f"Expected a field of at most {_FIELD_BYTES} bytes in {self._field_name!r}, "
                                          "got more; the file goes into the part 'file'")
            return
        self.size += end - start
        if self.size > self._limit:
            raise _too_large(self._limit)
        self._buffer += data[start:end]

    def _end(self) -> None:
        if self._field is not None:
            self.fields[self._field_name] = self._field.decode("utf-8", "replace")

    def _all(self) -> None:
        self.complete = self._files == 1
