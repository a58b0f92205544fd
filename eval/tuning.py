"""How much of the mark survives at what visibility, for variants of its constants.

    python -m eval.tuning --videos DIR --out FILE.csv [--summary FILE.md] [--configs a,b] [--limit-clips N]

The constants of genwm/lattice/tile.py (tile size, bands) and genwm/lattice/embed.py (mask) are chosen by such runs.
Key, payload and geometry are known to the reader here, so a dozen clips tell variants apart without a whole robustness
run: what raises z at equal visibility makes the mark easier to find and to read. Every row holds the constants that it
was measured with, so rows of earlier constants stay beside new ones and are never taken for them.
"""

from __future__ import annotations

import contextlib
import json
import math
import statistics
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from fractions import Fraction
from functools import partial, reduce
from operator import add
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from eval import tables
from eval.attacks import ATTACKS, Clip
from eval.attacks.geometry import cut, cut_even, scaled
from eval.commands.telling import listing
from eval.corpus import Video, list_videos
from eval.quality import Footage, jod, psnr
from eval.quality.colorvideovdp import load_package
from eval.resuming import check_clips
from eval.robustness.runner import secrets_of
from eval.workers import finished
from genwm.commands.telling import say
from genwm.errors import DiskFullError, GenwmError, InputError, MissingExtraError
from genwm.keys import Key
from genwm.lattice import tile
from genwm.lattice.decode import project
from genwm.lattice.evidence import WORKING_LINES, Accumulator
from genwm.lattice.spectrum import transform
from genwm.text import counted
from genwm.video import Planes, Source, read_planes

MIN_SHORT_SIDE = 480
LIMIT_CLIPS = 12
FRAMES = 40
JOD_FRAMES = 8
JOD_SIDE = 512
#: Short name in the columns, and the attack's id.
SURVIVED: Mapping[str, str] = {"crf30": "h264.crf30", "crf40": "h264.crf40", "half": "resize.0.5+h264.crf30"}
PLANES: tuple[str, ...] = ("", *(f"_{name}" for name in tile.PLANES))  # all together, then each
#: Visibility grows about as amplitude^1.85 (measured on our clips), z as the amplitude: z goes as visibility^0.54.
VISIBILITY_EXPONENT = 0.54
VISIBILITY = 0.10  # 10 - JOD on standard_4k to which z is scaled
MASK = ("MASK_LINES", "ACTIVITY_WINDOW", "RESIDUAL_WINDOW", "ACTIVITY_UNIT", "ACTIVITY_POWER", "LUMA_FLOOR", "LUMA_CAP",
        "CHROMA_FLOOR", "CHROMA_CAP", "DARK_GAIN", "DARK_LEVEL", "SHADE_GAIN", "SHADE_LEVEL", "BRIGHT_SLOPE",
        "BLACK_SLOPE", "COLOUR_FLOOR", "COLOUR_CAP", "RED_SHARE")

Z_COLUMNS = tuple(f"z_{attack}{plane}" for attack in SURVIVED for plane in PLANES)
VALUES = ("d_fhd", "d_4k", "luma_psnr", *Z_COLUMNS)
COLUMNS = (
    *("config", "clip", "label", "family", "width", "height", "fps", "frames", "max_frames", "seed"),
    *VALUES,
    *("seconds", "constants", "versions", "error", "message"),
    "sha256",
)
ADDED = ("sha256",)  # since the first tables
_IDENTITY = ("config", "constants", "clip", "max_frames", "seed")

Row = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Config:
    """A named variant: ``tile`` and ``mask`` replace constants of genwm.lattice.tile and genwm.lattice.embed."""

    name: str
    tile: Mapping[str, Any] = field(default_factory=dict)
    mask: Mapping[str, Any] = field(default_factory=dict)


def _bands(change: Callable[[tile.Band], tile.Band | None]) -> dict[str, tuple[tile.Band, ...]]:
    return {"BANDS": tuple(changed for band in tile.BANDS if (changed := change(band)) is not None)}


def _chroma(low: float, high: float) -> dict[str, tuple[tile.Band, ...]]:
    return _bands(lambda band: replace(band, low=low, high=high) if band.plane else band)


CONFIGS: Mapping[str, Config] = {
    config.name: config
    for config in (
        Config(name="current"),
        Config(name="blind to hue", mask={"COLOUR_FLOOR": 1.0, "COLOUR_CAP": 1.0}),
        Config(name="blind to shade", mask={"SHADE_GAIN": 1.0, "BRIGHT_SLOPE": 0.0, "BLACK_SLOPE": 0.0}),
        Config(name="flatter colour mask", mask={"CHROMA_FLOOR": 0.4, "CHROMA_CAP": 0.8}),
        Config(name="chroma .015-.06", tile=_chroma(0.015, 0.06)),
        Config(name="chroma .02-.10", tile=_chroma(0.02, 0.10)),
        Config(name="less luma", tile=_bands(lambda band: band if band.plane else replace(band, rms=0.65 * band.rms))),
        Config(name="luma only", tile=_bands(lambda band: None if band.plane else band)),
        Config(name="tile 128", tile={"TILE": 128}),
        Config(name="tile 256", tile={"TILE": 256}),
    )
}


# --- Constants


@contextlib.contextmanager
def overridden(config: Config) -> Iterator[None]:
    """The modules with a variant's constants. Whatever happens inside, they are as before afterwards, caches empty."""
    from genwm.lattice import embed

    changes: list[tuple[ModuleType, Mapping[str, Any]]] = [(tile, config.tile), (embed, config.mask)]
    before = [(module, name, getattr(module, name)) for module, values in changes for name in values]
    try:
        for module, values in changes:
            for name, value in values.items():
                setattr(module, name, value)
        _clear_caches()
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        _clear_caches()


def _clear_caches() -> None:
    """Forgets everything that the lattice's modules have computed from their constants."""
    for name, module in list(sys.modules.items()):
        if name.startswith("genwm.lattice."):
            for value in list(vars(module).values()):
                if callable(clear := getattr(value, "cache_clear", None)):
                    clear()


def constants(config: Config) -> str:
    """All constants of a variant, its own and the modules', as one line of JSON."""
    from genwm import marking
    from genwm.lattice import embed

    with overridden(config):
        values = {
            "TILE": tile.TILE,
            "SHORT_SIDE": tile.SHORT_SIDE,
            "BANDS": [astuple(band) for band in tile.BANDS],
            **{name: getattr(embed, name) for name in MASK},
            "GAIN": marking.STRENGTHS["balanced"],
            "MAX_SIZE_GAIN": marking.MAX_SIZE_GAIN,
        }
    return json.dumps(values, separators=(",", ":"))


# --- Measures


def known_z(
    values: NDArray[np.complex128], signs: NDArray[np.complex128], amplitude: NDArray[np.float64]
) -> float:
    """Correlation with a known mark in standard deviations: sum a Re(v s*) / sqrt(sum a^2 / 2).

    All are ``(n,)``; ``values`` have unit mean power without a mark, which makes z a standard normal then. Those that
    are exactly 0 lie beyond a plane's Nyquist frequency and do not count; nan where none is left.
    """
    there = values != 0
    if not there.any():
        return math.nan
    aligned = (values[there] * signs[there].conj()).real
    weight = amplitude[there]
    return float(np.sum(weight * aligned) / np.sqrt(np.sum(weight**2) / 2))


def survived(source: Source, key: Key, payload: int, *, width: float, height: float) -> dict[str, float]:
    """z of a copy by `PLANES` suffix: all planes, then each (nan for one that is not marked).

    The copy is read at the detector's working resolution; it may be resized but not cropped. ``width`` and ``height``
    are the marked picture's in square pixels.
    """
    collected = Accumulator()
    for frame in read_planes(source, max_short_side=WORKING_LINES, threads=1):
        collected.add(frame)
    spectrum = transform(reduce(add, collected.take()), workers=1)
    # Sizes are rounded to even numbers on the way, which would blur the highest frequencies at the picture's sides.
    canonical = tile.canonical_size(width, height)
    matrix = np.diag([canonical[0] / spectrum.width, canonical[1] / spectrum.height])
    values = project(spectrum, matrix, (canonical[0] / 2, canonical[1] / 2), limit=math.inf).values
    plan, signs = tile.layout(), tile.signs(key, payload)
    of_plane = [plan.plane >= 0, *(plan.plane == index for index in range(len(tile.PLANES)))]
    return {
        suffix: known_z(values[mine], signs[mine], plan.amplitude[mine])
        for suffix, mine in zip(PLANES, of_plane, strict=True)
    }


def centre(planes: Planes, *, side: int = JOD_SIDE) -> Planes:
    """The middle of a frame of even size: at most ``side`` (even) pixels each way, cut between chroma samples."""
    height, width = planes.y.shape
    rows, columns = min(side, height), min(side, width)
    return cut(planes, left=(width - columns) // 4 * 2, top=(height - rows) // 4 * 2, width=columns, height=rows)


def _frames(video: Video, count: int) -> tuple[list[Planes], float]:
    """Up to ``count`` first frames of square pixels, one even size and own memory, and the frame rate."""
    frames: list[Planes] = []
    shape: tuple[int, ...] = ()
    with read_planes(video.path, max_frames=count, threads=1) as reader:
        for planes in reader:
            shape = shape or planes.y.shape
            if planes.y.shape != shape:
                break
            # The arrays belong to the decoder until they are copied.
            planes = cut_even(replace(planes, y=planes.y.copy(), u=planes.u.copy(), v=planes.v.copy()))
            if abs(planes.pixel_aspect - 1) > 0.002:
                planes = replace(scaled(planes, x=planes.pixel_aspect, y=1), pixel_aspect=1.0)
            frames.append(planes)
    if not frames:
        raise InputError(f"Expected at least one frame in {video.id}, got none; leave it out")
    return frames, (reader.info.fps if reader.info else None) or 25.0


def measure(video: Video, configs: Sequence[Config], *, frames: int = FRAMES, seed: int = 0) -> list[Row]:
    """The rows of one clip, one a variant. What goes wrong is a row with ``error``; a missing package and a full disk
    are raised. Sets torch to one thread."""
    import torch

    torch.set_num_threads(1)
    blank = dict.fromkeys(COLUMNS, "") | {
        "clip": video.id,
        "label": video.label,
        "family": video.family,
        "max_frames": str(frames),
        "seed": str(seed),
        "sha256": video.content,
        "versions": tables.versions("av", "numpy", "torch", "cvvdp"),
    }
    rows = []
    read: tuple[list[Planes], float] | None = None
    for config in configs:
        started = time.perf_counter()
        row = blank | {"config": config.name, "constants": constants(config)}
        try:
            read = read or _frames(video, frames)
            row |= _measured(*read, video, config, seed)
        except (DiskFullError, ImportError, MissingExtraError):
            raise
        except Exception as error:
            row["error"], row["message"] = tables.failure(error)
        rows.append(row | {"seconds": f"{time.perf_counter() - started:.1f}"})
    return rows


def _measured(frames: Sequence[Planes], fps: float, video: Video, config: Config, seed: int) -> Row:
    from genwm.marking import Mark, Marker

    key, _, payload, _ = secrets_of(video, seed)
    height, width = frames[0].y.shape
    with overridden(config):
        marker = Marker(Mark(key, payload), width, height)
        marked = [marker.planes(frame) for frame in frames]
        before, after = (Footage.from_planes([centre(frame) for frame in of[:JOD_FRAMES]]) for of in (frames, marked))
        scores = jod(before.rgb, after.rgb, fps=fps, displays=("standard_fhd", "standard_4k"))
        values = {
            "d_fhd": 10 - scores["standard_fhd"],
            "d_4k": 10 - scores["standard_4k"],
            "luma_psnr": psnr(np.stack([frame.y for frame in frames]), np.stack([frame.y for frame in marked])),
        }
        clip = Clip(marked, Fraction(fps).limit_denominator(1001))
        for name, attack in SURVIVED.items():
            rng = np.random.default_rng([seed, zlib.crc32(video.id.encode())])
            copy = ATTACKS[attack].apply(clip, rng)
            found = survived(copy, key, payload, width=width, height=height)
            values |= {f"z_{name}{plane}": z for plane, z in found.items()}
    facts = {"width": str(width), "height": str(height), "fps": f"{fps:.4f}", "frames": str(len(frames))}
    return facts | {name: "" if math.isnan(value) else f"{value:.4f}" for name, value in values.items()}


# --- A run


def run(
    videos: Sequence[Video],
    out: Path,
    *,
    configs: Sequence[Config] = tuple(CONFIGS.values()),
    frames: int = FRAMES,
    seed: int = 0,
    processes: int = 2,
    on_row: Callable[[Row], None] | None = None,
) -> int:
    """Measures every variant on every clip and appends one row each to the CSV file ``out``; returns how many.

    A worker takes one clip at a time, and its rows are on the disk before the next are written. Rows that ``out`` has
    already, of the same constants, are not measured again, unless they hold an error; a line torn by a kill is dropped.
    ``frames``: how many from the clip's start are marked and attacked. Errors: MissingExtraError (extra 'quality'),
    InputError (a file of other columns), DiskFullError, OutputError (also where rows are of other clips of the same
    names), BudgetError (a worker was killed).
    """
    load_package()  # fails at once, rather than on every clip
    asked = [(config, constants(config)) for config in configs]
    rows = read_rows(out)
    check_clips(out, videos, ((row["clip"], row["sha256"]) for row in rows if not row["error"]))
    done = {_identity(row) for row in rows if not row["error"]}
    jobs = []
    for video in videos:
        left = [config for config, text in asked if (config.name, text, video.id, str(frames), str(seed)) not in done]
        if left:
            jobs.append(partial(measure, video, left, frames=frames, seed=seed))
    if out.exists() and not tables.has_columns(out, COLUMNS):
        tables.rewrite(out, COLUMNS, ([row[name] for name in COLUMNS] for row in rows))
    tables.prepare(out, COLUMNS)
    added = 0
    for measured in finished(jobs, processes):
        for row in measured:
            tables.append(out, [[row[name] for name in COLUMNS]])
            added += 1
            if on_row:
                on_row(row)
    return added


def _identity(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in _IDENTITY)


def read_rows(path: Path) -> list[Row]:
    """The rows of a results file, the last one of each (config, constants, clip, max_frames, seed); none where there is
    no file. Torn and damaged lines are left out. Raises InputError for a file of other columns."""
    other = InputError(f"Expected the columns of a tuning run in {path}, got others; choose another file")
    rows = tables.read(path, COLUMNS, refusal=other, added=ADDED) or ()
    return list({_identity(row): row for row in rows}.values())


# --- Summary


def at_equal_visibility(z: float, visibility: float) -> float:
    """z with the amplitude turned to a visibility of `VISIBILITY`; nan where the mark cannot be seen at all."""
    return z * (VISIBILITY / visibility) ** VISIBILITY_EXPONENT if visibility > 0 else math.nan


def summary(rows: Sequence[Row]) -> str:
    """Markdown: visibility and z of each variant, over all its clips and, where these differ, over those that all
    variants share; the constants; failures. Rows as of `read_rows`."""
    good = [row for row in rows if not row["error"]]
    named: dict[tuple[str, str], list[Row]] = {}
    for row in good:
        named.setdefault((row["config"], row["constants"]), []).append(row)
    groups: dict[str, list[Row]] = {}
    texts: dict[str, str] = {}
    for (name, text), members in named.items():
        versions = [other for same, other in named if same == name]
        label = name if len(versions) == 1 else f"{name} #{versions.index(text) + 1}"
        groups[label], texts[label] = members, text
    parts = ["# Variants of the mark's constants\n\n", _CONDITIONS, "\n## All clips measured\n", *_tables(groups)]
    clips = {label: {_trial(row) for row in members} for label, members in groups.items()}
    shared = set.intersection(*clips.values()) if clips else set()
    if shared and any(mine != shared for mine in clips.values()):
        common = {label: [row for row in members if _trial(row) in shared] for label, members in groups.items()}
        parts += [f"\n## The {counted(len(shared), 'clip')} that all variants were measured on\n", *_tables(common)]
    parts += ["\n## Constants\n\n", *(f"- {label}: `{text}`\n" for label, text in texts.items())]
    if failed := [row for row in rows if row["error"]]:
        parts += ["\n## Not measured\n\n"]
        parts += [f"- {row['clip']} ({row['config']}): {row['error']}: {row['message']}\n" for row in failed]
    return "".join(parts)


def _trial(row: Row) -> tuple[str, ...]:
    """What variants must share to be compared."""
    return row["clip"], row["max_frames"], row["seed"]


_CONDITIONS = (
    f"D is 10 - JOD of ColorVideoVDP over the first {JOD_FRAMES} frames of the central {JOD_SIDE} x {JOD_SIDE} pixels "
    "at the clip's own frame rate. z is the correlation at known key, payload and geometry in standard deviations of "
    f"the noise. 'Scaled' is mean z x ({VISIBILITY:.2f} / mean D on standard_4k)^{VISIBILITY_EXPONENT}: what it would "
    f"be with the amplitude turned to a D of {VISIBILITY:.2f}.\n"
)


def _tables(groups: Mapping[str, Sequence[Row]]) -> list[str]:
    visible = [["config", "clips", "D fhd mean / max", "D 4k mean / max", "luma PSNR mean / min (dB)"]]
    strong = [["config", *(f"{attack}: {what}" for attack in SURVIVED.values() for what in
                           ("z mean / min", "mean of Y, U, V", "scaled"))]]
    for label, members in groups.items():
        fhd, uhd, quality = (_numbers(members, name) for name in ("d_fhd", "d_4k", "luma_psnr"))
        cells = [f"{statistics.fmean(found):.3f} / {max(found):.3f}" for found in (fhd, uhd)]
        visible.append([label, str(len(members)), *cells, f"{statistics.fmean(quality):.1f} / {min(quality):.1f}"])
        cells = [label]
        for attack in SURVIVED:
            total, *planes = (_numbers(members, f"z_{attack}{plane}") for plane in PLANES)
            mean = statistics.fmean(total) if total else math.nan
            cells += [
                f"{mean:.2f} / {min(total, default=math.nan):.2f}",
                ", ".join(f"{statistics.fmean(found):.1f}" if found else "-" for found in planes),
                f"{at_equal_visibility(mean, statistics.fmean(uhd)):.2f}",
            ]
        strong.append(cells)
    return [_table(visible), _table(strong)]


def _numbers(rows: Sequence[Row], column: str) -> list[float]:
    return [float(row[column]) for row in rows if row[column]]


def _table(lines: Sequence[Sequence[str]]) -> str:
    ruled = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in ruled)


# --- The command


def _chosen(context: click.Context, parameter: click.Parameter, value: str) -> tuple[Config, ...]:
    names = [name.strip() for name in value.split(",") if name.strip()]
    if not names:
        raise click.BadParameter(f"Expected names of {', '.join(CONFIGS)}, got none; choose some.")
    for name in names:
        if name not in CONFIGS:
            raise click.BadParameter(f"Expected names of {', '.join(CONFIGS)}, got {name!r}; choose some.")
    return tuple(CONFIGS[name] for name in dict.fromkeys(names))


@click.command()
@click.option("--videos", required=True, type=click.Path(path_type=Path), help="Folder of clips.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="CSV file, one row a variant and clip.")
@click.option("--summary", "summary_path", type=click.Path(path_type=Path), help="Markdown file; else standard output.")
@click.option("--configs", default=",".join(CONFIGS), show_default=True, callback=_chosen, help="Variants, by commas.")
@click.option("--limit-clips", default=LIMIT_CLIPS, show_default=True, type=click.IntRange(1))
@click.option("--frames", default=FRAMES, show_default=True, type=click.IntRange(1), help="First frames of each clip.")
@click.option("--min-short-side", default=MIN_SHORT_SIDE, show_default=True, type=click.IntRange(0),
              help="Leave out clips of fewer lines on the short side.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Chooses clips, keys and payloads.")
@click.option("--processes", default=2, show_default=True, type=click.IntRange(1),
              help="Clips that are measured at a time.")
def main(
    *,
    videos: Path,
    out: Path,
    summary_path: Path | None,
    configs: tuple[Config, ...],
    limit_clips: int,
    frames: int,
    min_short_side: int,
    seed: int,
    processes: int,
) -> None:
    """Measures what survives of the mark, and how visible it is, for variants of its constants. Rows that OUT has
    already are kept: the same command goes on after a kill."""
    try:
        clips = list_videos(videos, min_short_side=min_short_side, seed=seed, progress=listing())[:limit_clips]
        run(clips, out, configs=configs, frames=frames, seed=seed, processes=processes, on_row=_show)
        text = summary(read_rows(out))
        if summary_path:
            tables.put(summary_path, text)
        else:
            click.echo(text)
    except GenwmError as error:
        say(f"error[{error.code}]: {error}")
        sys.exit(2)


def _show(row: Row) -> None:
    shown = ("d_fhd", "d_4k", *(f"z_{attack}" for attack in SURVIVED))
    values = ", ".join(f"{name} {row[name]}" for name in shown if row[name])
    say(f"{row['config']} {row['clip']} ({row['seconds']} s): {row['error'] or values}")


if __name__ == "__main__":
    main()
