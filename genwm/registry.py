"""The registry: what was generated, by which key, and what it looks like.

A payload that is read from a clip says which generation it claims to be. Whether it is that one is another question: a
mark can be copied onto other pictures. So each entry holds a perceptual fingerprint, a few reduced frames in grey, and
``lookup`` compares: a ``match`` looks like what was generated, a ``transplant`` carries the mark of a clip that it does
not look like.

One SQLite file on the machine that generates, beside the keyring; no prompt is kept, only its hash.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from genwm.errors import InputError, OutputError
from genwm.keys import Keyring

__all__ = [
    "MATCH", "TRANSPLANT", "Entry", "Finding", "Registry", "fingerprint", "fingerprint_of", "lookup", "similarity",
]  # fmt: skip

#: Similarities at or above which two clips are the same, and at or below which they are not; between them neither is
#: said. docs/generate.md says what they were set on.
MATCH, TRANSPLANT = 0.55, 0.40

_VERSION = 1
_SIDE = 32  # of a reduced frame: 32 x 32, whatever the shape of the picture
# Rows and columns that a copy has among them: cropped to two thirds of both sides, or of one side to the shape of
# another screen (16:9 to 1:1 keeps 18 of 32 columns, to 9:16 10).
_SQUARES = tuple((side, side) for side in range(_SIDE, 20, -2))
_STRIPS = tuple((_SIDE, side) for side in (28, 24, 21, 18, 16, 14, 12, 10)) + tuple(
    (side, _SIDE) for side in (28, 24, 21, 18, 16))
# Scales of the mark between which a picture shows enough of the registered one, and little else, to be compared; up to
# the last a crop's size is taken from the mark. What a smaller one shows looks like many pictures.
_LEAST_SCALE, _MOST_SCALE, _CROPPED_SCALE = 0.85, 1.5, 2.0
_FRAMES = 16  # that a fingerprint keeps
_LOOKED_AT = 6  # frames of a copy that are compared
_FLAT = 3.0  # deviation of the levels in a row or column of bars, as compression leaves it
_DETAIL = 2.0  # what is coarser than this many reduced pixels is taken out: shades are alike in many pictures
_LINES = 240
_SCHEMA = """
CREATE TABLE generation (
    id INTEGER PRIMARY KEY, payload TEXT NOT NULL, key_id TEXT NOT NULL, made_at TEXT NOT NULL, model TEXT NOT NULL,
    prompt_sha256 TEXT NOT NULL, file TEXT NOT NULL, frames INTEGER NOT NULL, fingerprint BLOB NOT NULL
);
CREATE INDEX generation_by_mark ON generation (payload, key_id);
"""
_FIELDS = "payload, key_id, model, prompt_sha256, file, made_at"

Frames = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One clip that was generated, or marked afterwards.

    Attributes:
        payload: 0 <= payload < 2^64.
        key_id: public id of the key, 16 hex digits.
        model: what made it; '' where that is not known.
        prompt_sha256: SHA-256 of the prompt, 64 hex digits; '' without one.
        file: name of the file when it was written.
        made_at: time of the entry, ISO 8601 in UTC; '' before it is added.
    """

    payload: int
    key_id: str
    model: str = ""
    prompt_sha256: str = ""
    file: str = ""
    made_at: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What the registry says of a clip.

    Attributes:
        status: 'match': an entry has this payload and looks like the clip. 'transplant': entries have it, and none
            looks like the clip. 'unknown': no entry has it, or the comparison decides neither way.
        similarity: of the entry that is most like the clip, -1 to 1; None where none was compared.
        entry: that entry.
    """

    status: Literal["match", "transplant", "unknown"]
    similarity: float | None = None
    entry: Entry | None = None


class Registry:
    """A registry file; it is made when the first entry is added.

    Args:
        path: default ``Registry.default_path()``.

    Errors of all methods: InputError for a file that is no registry or cannot be read, OutputError where it cannot be
    written.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path) if path is not None else self.default_path()

    @staticmethod
    def default_path() -> Path:
        """``$GENWM_REGISTRY``, else ``registry.sqlite3`` beside the keyring."""
        if named := os.environ.get("GENWM_REGISTRY"):
            return Path(named).expanduser()
        return Keyring.default_path().with_name("registry.sqlite3")

    @classmethod
    def writable(cls) -> Registry:
        """The user's registry, which is known to take entries; makes the file. Errors: InputError, OutputError."""
        registry = cls()
        registry.check()
        return registry

    def add_clip(self, entry: Entry, path: str | os.PathLike[str]) -> None:
        """`add` of an entry whose clip is the file at ``path``. Errors: those of `fingerprint_of`, too."""
        self.add(entry, fingerprint_of(path))

    def add(self, entry: Entry, prints: Frames) -> None:
        """Adds an entry with the fingerprint of its clip; several processes may do so at once."""
        if prints.dtype != np.uint8 or prints.ndim != 3 or prints.shape[1:] != (_SIDE, _SIDE) or not len(prints):
            raise InputError(f"Expected a fingerprint, uint8 (frames, {_SIDE}, {_SIDE}), got {prints.dtype} "
                             f"{prints.shape}; make it with fingerprint.")
        made_at = entry.made_at or datetime.now(UTC).isoformat(timespec="seconds")
        row = (f"{entry.payload:016x}", entry.key_id, made_at, entry.model, entry.prompt_sha256, entry.file,
               len(prints), prints.tobytes())
        with self._opened(write=True) as database, database:
            database.execute(
                "INSERT INTO generation (payload, key_id, made_at, model, prompt_sha256, file, frames, fingerprint) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def check(self) -> None:
        """Raises what ``add`` would, as far as it can be known before; makes the file."""
        with self._opened(write=True):
            pass

    def __len__(self) -> int:
        if not self.path.exists():
            return 0
        with self._opened() as database:
            return int(database.execute("SELECT count(*) FROM generation").fetchone()[0])

    def entries(self, payload: int, *, key_id: str | None = None) -> list[tuple[Entry, Frames]]:
        """The entries of a payload, of one key or of all, and their fingerprints."""
        if not self.path.exists():
            return []
        where, values = "payload = ?", [f"{payload:016x}"]
        if key_id is not None:
            where, values = f"{where} AND key_id = ?", [*values, key_id]
        with self._opened() as database:
            rows = database.execute(
                f"SELECT {_FIELDS}, fingerprint FROM generation WHERE {where} ORDER BY id", values).fetchall()
        return [(Entry(payload=int(row[0], 16), key_id=row[1], model=row[2], prompt_sha256=row[3], file=row[4],
                       made_at=row[5]), np.frombuffer(row[6], np.uint8).reshape(-1, _SIDE, _SIDE)) for row in rows]

    def lookup(self, payload: int, frames: Frames | Sequence[Frames], *, key_id: str | None = None,
               distorted: bool = False, scale: float = 1.0) -> Finding:
        """Compares a clip with the entries of the payload that was read from it.

        Args:
            payload: the 64 bits.
            frames: pictures of the clip, uint8, ``(N, H, W, 3)`` RGB or ``(N, H, W)`` luma; a few of them, spread over
                the clip, are looked at.
            key_id: of the key whose mark it is; None for any.
            distorted: whether the mark's geometry says that the clip was cut to less than two thirds of a side or
                turned by more than 3 degrees, which the comparison does not see through: then nothing is called a
                transplant.
            scale: of the mark, as its geometry says: a crop to 60 % of a side shows 1.67. Above 1.5 the copy is
                compared at that size, to 2; and there, and below .85, where there is more around the picture, nothing
                is called a transplant either.
        """
        found = self.entries(payload, key_id=key_id)
        if not found:
            return Finding("unknown")
        pictures = _spread(frames, _LOOKED_AT)
        scored = [(similarity(prints, pictures, scale=scale), entry) for entry, prints in found]
        best, entry = max(scored, key=lambda pair: pair[0])
        other = best <= TRANSPLANT and not distorted and _LEAST_SCALE <= scale <= _MOST_SCALE
        status: Any = "match" if best >= MATCH else "transplant" if other else "unknown"
        return Finding(status, best, entry)

    @contextmanager
    def _opened(self, write: bool = False) -> Iterator[sqlite3.Connection]:
        try:
            if write:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=30)) as database:
                version = database.execute("PRAGMA user_version").fetchone()[0]
                if version == 0 and write:
                    self._make(database)
                elif version != _VERSION:
                    raise InputError(f"Expected a registry of version {_VERSION} at {self.path}, got {version}; use "
                                     "the genwm that wrote it, or name another file in GENWM_REGISTRY.")
                yield database
        except (sqlite3.Error, OSError) as error:
            kind = OutputError if write else InputError
            raise kind(f"Expected a registry that can be {'written' if write else 'read'} at {self.path}, got "
                       f"'{error}'; fix it, or name another file in GENWM_REGISTRY.") from None

    @staticmethod
    def _make(database: sqlite3.Connection) -> None:
        database.execute("BEGIN IMMEDIATE")
        with database:  # whoever came first has made it
            if database.execute("PRAGMA user_version").fetchone()[0] == 0:
                for statement in _SCHEMA.split(";"):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {_VERSION}")


def lookup(
    payload: int, frames: Frames | Sequence[Frames], *, key_id: str | None = None, distorted: bool = False,
    scale: float = 1.0,
) -> Finding:  # fmt: skip
    """:meth:`Registry.lookup` of the default registry."""
    return Registry().lookup(payload, frames, key_id=key_id, distorted=distorted, scale=scale)


# --- what a clip looks like


def fingerprint(frames: Frames | Sequence[Frames]) -> Frames:
    """Reduced frames of a clip, evenly spread: uint8 ``(at most 16, 32, 32)``.

    ``frames``: uint8, ``(N, H, W, 3)`` RGB or ``(N, H, W)`` luma.
    """
    return np.stack([_reduced(_luma(frame)) for frame in _spread(frames, _FRAMES)])


def fingerprint_of(path: str | os.PathLike[str]) -> Frames:
    """The fingerprint of a file. Errors: those of :func:`genwm.video.probe`."""
    from genwm.video import probe, read_planes

    info = probe(path)
    count = round((info.duration_s or 0) * (info.fps or 0))
    kept: list[Frames] = []
    every = max(1, count // (2 * _FRAMES))
    for number, planes in enumerate(read_planes(path, max_short_side=_LINES)):
        if number % every == 0:
            kept.append(_reduced(planes.y))
    return np.stack(_spread(kept, _FRAMES))


def similarity(prints: Frames, frames: Frames | Sequence[Frames], *, scale: float = 1.0) -> float:
    """How much a clip looks like a fingerprint, or a part of it: -1 to 1, near 0 for other clips.

    The mean, over the clip's frames, of the largest correlation with any frame of the fingerprint at any place (which
    moves in a pan), for the size where that is largest, mirrored or not, with and without its bars. A copy may be
    cropped to two thirds of its sides or to another shape, cut in time, squeezed and compressed.

    Args:
        prints: of :func:`fingerprint`.
        frames: as there.
        scale: of the mark in the copy; one that was cropped further, to half a side at most, is compared at that size.
    """
    pictures = [_luma(frame) for frame in _spread(frames, _LOOKED_AT)]
    reference = _detail(prints)
    sizes, best = _sizes(scale), -1.0
    for shown in [pictures, *_without_bars(pictures)]:
        for turned in (shown, [one[:, ::-1] for one in shown]):
            best = max(best, _correlation(reference, turned, sizes))
            if best >= MATCH:
                return best
    return best


def _without_bars(pictures: Sequence[Frames]) -> list[list[Frames]]:
    """The pictures without what is of one shade along their edges in all of them, if there is such a thing."""
    if len({one.shape for one in pictures}) != 1:
        return []
    levels = np.stack(pictures).astype(np.float32)
    rows, columns = (np.flatnonzero(levels.std(axis=axes) >= _FLAT) for axes in ((0, 2), (0, 1)))
    if not len(rows) or not len(columns):
        return []
    inside = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    cut = [np.ascontiguousarray(one[inside]) for one in pictures]
    return [cut] if cut[0].shape != pictures[0].shape else []


def _sizes(scale: float) -> tuple[tuple[int, int], ...]:
    if not _MOST_SCALE < scale <= _CROPPED_SCALE:
        return _SQUARES + _STRIPS
    middle = round(_SIDE / scale)
    return tuple((side, side) for side in (middle + 1, middle, middle - 1)) + _STRIPS


def _correlation(
    reference: NDArray[np.float32], pictures: Sequence[Frames], sizes: Sequence[tuple[int, int]]
) -> float:
    best = -1.0
    for rows, columns in sizes:
        reduced = np.stack([_reduced(one, rows, columns) for one in pictures])
        wanted = _unit(_detail(reduced).reshape(len(pictures), -1))
        windows = sliding_window_view(reference, (rows, columns), axis=(1, 2))
        held = _unit(windows.reshape(-1, rows * columns))
        best = max(best, float((held @ wanted.T).max(axis=0).mean()))
    return best


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows without their means, of length 1; flat ones stay near 0."""
    centred = vectors - vectors.mean(1, keepdims=True)
    unit: NDArray[np.float32] = centred / (np.linalg.norm(centred, axis=1, keepdims=True) + 1.0)
    return unit


def _detail(pictures: Frames) -> NDArray[np.float32]:
    from scipy.ndimage import gaussian_filter  # `verify` only asks where the registry is, and has to start fast

    levels = pictures.astype(np.float32)
    fine: NDArray[np.float32] = levels - gaussian_filter(levels, (0, _DETAIL, _DETAIL), mode="nearest")
    return fine


def _spread(frames: Frames | Sequence[Frames], count: int) -> list[Frames]:
    if not len(frames):
        raise InputError("Expected at least one frame to compare, got none; read some.")
    places = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    return [frames[place] for place in places]


def _luma(frame: Frames) -> Frames:
    if frame.dtype != np.uint8 or not (frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] == 3)):
        raise InputError(f"Expected uint8 frames, RGB (H, W, 3) or luma (H, W), got {frame.dtype} {frame.shape}; "
                         "convert them.")
    if frame.ndim == 2:
        return frame
    from PIL import Image

    return np.asarray(Image.fromarray(frame).convert("L"))


def _reduced(luma: Frames, rows: int = _SIDE, columns: int = _SIDE) -> Frames:
    from PIL import Image

    return np.asarray(Image.fromarray(luma).resize((columns, rows), Image.Resampling.BOX))
