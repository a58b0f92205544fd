"""Random keys against one clip, with the detector's own functions and its own decision."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import add
from typing import Any

from detectors import watermark as reader
from detectors.search import FRAMED, WARPED_BESIDE, Finding, Search, looks_counted
from eval import tables
from eval.corpus import Video
from genwm.errors import GenwmError, InputError
from genwm.keys import Key
from genwm.lattice import geometry, pilots
from genwm.lattice.decision import HINT_LOG10_P, THRESHOLD_LOG10_P
from genwm.lattice.decode import Projection, project_candidate
from genwm.lattice.evidence import Evidence, of_one_size
from genwm.lattice.geometry import Candidate
from genwm.lattice.perspective import outline, straightened
from genwm.lattice.spectrum import Spectrum, transform
from genwm.lattice.zoom import zoomed
from genwm.video import probe

#: Families tried with every key, and those that only the whole search tries.
KNOWN = ("unchanged", "flipped", "recoloured", "near", "aspect")
SEARCHED = ("cut", "odd_cut", "scale", "warp", "zoom")
FAMILIES = KNOWN + SEARCHED
COLUMNS = (
    "clip", "key", "level", *(f"z_{name}" for name in FAMILIES), *(f"log10_p_{name}" for name in FAMILIES),
    "log10_p", "decision", "payload",
)  # fmt: skip
#: This project's own method, whatever strength marked.
OURS = "lattice"
#: Keys tried at once: bounds the memory.
BATCH = 100
#: How far the p-value may be from the one that read_watermark itself reports.
_AGREEMENT = 0.02
_Candidates = dict[int, list[Candidate]]


@dataclass(frozen=True, slots=True)
class Look:
    """One look of the detector: the evidence that it has so far, whether the whole search runs on it, the displayed
    width and height of the picture, and whether the look is taken only where the key frames ``glimpsed`` something,
    only where they did not, or always (None)."""

    evidence: tuple[Evidence, ...]
    spectrum: Spectrum
    thorough: bool
    size: tuple[int, int]
    glimpsed: bool | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """What one random key gave on one clip.

    Attributes:
        key: number of the key.
        level: 'known' (known geometries) or 'all' (the whole search).
        z, family_log10_p: by family, on the last look, the one with all the evidence; the p-value is the family's own
            with its share of the error budget, before the looks are counted. Families that were not tried are missing.
        log10_p: of the detector's decision over all looks and over the families of ``level``.
        decision: 'detected', 'inconclusive' or 'not_detected'.
        payload: 16 hex digits if a payload was "read", else empty.
    """

    key: int
    level: str
    z: dict[str, float]
    family_log10_p: dict[str, float]
    log10_p: float
    decision: str
    payload: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipResult:
    """One clip: what was tried on it and what came out. ``tests_*`` is the number of tests that each family claims;
    ``sha256`` the first 16 hex digits of the clip's; ``method`` whose reader it was; both are empty where unknown."""

    clip: str
    label: str = ""
    group: str = ""
    short_side: int = 0
    frames: int = 0
    looks: int = 0
    keys: int = 0
    search_keys: int = 0
    max_frames: int = 0
    seed: int = 0
    detected: int = 0
    inconclusive: int = 0
    min_log10_p: float = 0.0
    tests_unchanged: float = math.nan
    tests_flipped: float = math.nan
    tests_recoloured: float = math.nan
    tests_near: float = math.nan
    tests_aspect: float = math.nan
    tests_cut: float = math.nan
    tests_odd_cut: float = math.nan
    tests_scale: float = math.nan
    tests_warp: float = math.nan
    tests_zoom: float = math.nan
    seconds: float = 0.0
    cpu_s: float = 0.0
    versions: str = ""
    error: str = ""
    message: str = ""
    sha256: str = ""
    method: str = ""

    def tests(self, family: str) -> float:
        return float(getattr(self, f"tests_{family}"))



def random_key(video: Video, number: int, seed: int) -> Key:
    """Key ``number`` for a clip: a hash of seed, clip and number, so that a run can be repeated."""
    text = f"genwm eval/false-alarms/{seed}/{video.sha256 or video.id}/{number}"
    return Key(f"random-{number}", hashlib.sha256(text.encode()).digest(), "2026-01-01T00:00:00+00:00")


def looks_of(path: str | os.PathLike[str], *, max_frames: int, threads: int = 1) -> list[Look]:
    """The looks that ``read_watermark`` takes at an unmarked file: key frames, a first stretch, all the evidence.

    The look at the first stretch ends its last group early. Where that groups all frames in another way than without
    it, the last look is there twice: for keys that are looked up in the first stretch, and for the others.
    """
    info = probe(path)
    looks: list[Look] = []

    def look(evidence: Sequence[Evidence], *, thorough: bool = False, glimpsed: bool | None = None) -> None:
        evidence = of_one_size(evidence)
        if evidence:
            looks.append(Look(tuple(evidence), transform(reduce(add, evidence)), thorough,
                              (info.width, info.height), glimpsed))  # fmt: skip

    if not info.is_still:
        keyed = reader.key_collector()
        for frame in reader.key_frames(path, info, threads, min(reader.KEY_FRAMES, max_frames), []):
            keyed.add(frame)
        look(keyed.take())
    through, paused = reader.collector(info, max_frames), reader.collector(info, max_frames)
    parted: list[Evidence] = []
    for number, frame in enumerate(reader.stretches(path, info, threads, max_frames, []), start=1):
        through.add(frame)
        paused.add(frame)
        if number == reader.FIRST_LOOK_FRAMES:
            parted = paused.take()
            look(parted, glimpsed=True)
    whole, parted = through.take(), [*parted, *paused.take()]
    if _groups(whole) == _groups(parted):
        look(whole, thorough=True)
    else:
        look(parted, thorough=True, glimpsed=True)
        look(whole, thorough=True, glimpsed=False)
    return looks


def _groups(evidence: Sequence[Evidence]) -> list[tuple[int, float, float]]:
    return [(one.frames, one.start_s, one.stop_s) for one in evidence]


def try_keys(
    looks: Sequence[Look], keys: Sequence[Key], *, search_keys: int
) -> Iterator[tuple[Trial, list[Candidate]]]:
    """Tries every key by itself at the known geometries, and the first ``search_keys`` in the whole search.

    Yields what each key gave and the candidates of the last look. The first numbers of ``keys`` count from 0.
    """
    for start in range(0, len(keys), BATCH):
        batch = keys[start : start + BATCH]
        searched = min(max(search_keys - start, 0), len(batch))
        signs = pilots.pilot_keys(batch)
        searches = [Search([key], [sign], looks[-1].size) for key, sign in zip(batch, signs, strict=True)]
        tried: list[list[Candidate]] = [[] for _ in batch]
        left = list(range(len(batch)))
        for look in looks:
            now = [number for number in left if look.glimpsed in (None, searches[number].glimpsed)]
            decided = _look(look, now, searches, tried, searched) if now else ()
            left = [number for number in left if number not in decided]
        for number, (search, candidates) in enumerate(zip(searches, tried, strict=True)):
            level = "all" if number < searched else "known"
            yield _trial(start + number, level, candidates, search.best), candidates


def _look(
    look: Look, numbers: Sequence[int], searches: Sequence[Search], tried: list[list[Candidate]], searched: int
) -> set[int]:
    """Takes one look with the searches of those numbers, the whole search with numbers below ``searched``. Puts the
    candidates of each into ``tried`` and returns the numbers that are decided."""
    signs = [searches[number].signs[0] for number in numbers]
    known = _by_key(geometry.uncropped(look.spectrum, signs, squeezes=look.thorough))
    crops: _Candidates = {}
    warps: _Candidates = {}
    zooms: dict[int, list[tuple[Candidate, Callable[[], Projection]]]] = {}
    corners = outline(look.spectrum.evidence) if look.thorough else None
    framed: _Candidates = {}
    if corners is not None:
        straight = transform(straightened(look.spectrum.evidence, corners))
        framed = _by_key([replace(item, corners=corners) for item in geometry.uncropped(straight, signs)])
    few = [sign for number, sign in zip(numbers, signs, strict=True) if number < searched] if look.thorough else []
    if few:
        crops = _by_key([*geometry.cut(look.spectrum, few, look.size),
                         *geometry.cropped(look.spectrum, few, look.size)])
        warps = _by_key(geometry.warped(look.spectrum, few))
        for candidate, projection in zoomed(look.evidence, few):
            zooms.setdefault(candidate.key, []).append((replace(candidate, key=0), projection))
    still = partial(project_candidate, look.spectrum)
    decided: set[int] = set()
    for place, number in enumerate(numbers):  # in ascending order, so the few come first
        search, candidates = searches[number], list(known[place])
        tried[number] = candidates
        if search.weigh(candidates, still, looks=looks_counted(look.thorough)):
            decided.add(number)
            continue
        candidates += framed.get(place, [])
        if corners is not None and search.weigh(framed.get(place, []), partial(project_candidate, straight),
                                                looks=FRAMED):  # fmt: skip
            decided.add(number)
        elif place < len(few):
            moving = zooms.get(place, [])
            projections = {id(candidate): make for candidate, make in moving}
            zoom_candidates = [candidate for candidate, _ in moving]
            candidates += crops.get(place, []) + warps.get(place, []) + zoom_candidates
            if (
                search.weigh(crops.get(place, []), still)
                or search.weigh(warps.get(place, []), still, looks=1 if corners is None else WARPED_BESIDE)
                or search.weigh(zoom_candidates, lambda item, of=projections: of[id(item)]())  # type: ignore[misc]
            ):
                decided.add(number)
    return decided


def _by_key(candidates: Iterable[Candidate]) -> _Candidates:
    """Candidates by key, each as if its key had been tried alone."""
    found: _Candidates = defaultdict(list)
    for candidate in candidates:
        found[candidate.key].append(replace(candidate, key=0))
    return found


def _trial(number: int, level: str, candidates: Sequence[Candidate], best: Finding) -> Trial:
    z: dict[str, float] = {}
    for candidate in candidates:
        if candidate.corners:
            continue  # a search of its own beside the family's claimed tests: only the decision counts it
        z[candidate.family.name] = max(candidate.z, z.get(candidate.family.name, -math.inf))
    families = {candidate.family.name: candidate.family for candidate in candidates}
    decision = (
        "detected" if best.log10_p <= THRESHOLD_LOG10_P
        else "inconclusive" if best.log10_p <= HINT_LOG10_P
        else "not_detected"
    )  # fmt: skip
    log10_p = {name: families[name].log10_p(value) for name, value in z.items()}
    payload = "" if best.payload is None else f"{best.payload:016x}"
    return Trial(number, level, z, log10_p, best.log10_p, decision, payload)


def measure(video: Video, *, keys: int, search_keys: int, max_frames: int, seed: int) -> tuple[ClipResult, list[Trial]]:
    """Tries ``keys`` random keys on one clip. What fails is a result with an error and no trials."""

    def tried() -> tuple[list[Trial], dict[str, Any]]:
        looks = looks_of(video.path, max_frames=max_frames)
        if not looks:
            raise InputError(f"Expected frames in {video.path}, got none; leave the file out")
        ring = [random_key(video, number, seed) for number in range(keys)]
        trials: list[Trial] = []
        facts: dict[str, Any] = {
            "frames": sum(item.frames for item in looks[-1].evidence),
            "looks": sum(look.glimpsed is not False for look in looks),
        }
        for trial, candidates in try_keys(looks, ring, search_keys=search_keys):
            trials.append(trial)
            facts |= {f"tests_{candidate.family.name}": float(candidate.family.tests) for candidate in candidates}
        if search_keys:
            _check(video, ring[0], trials[0], max_frames)
        return trials, facts

    return of_clip(video, tried, keys=keys, search_keys=search_keys, max_frames=max_frames, seed=seed, method=OURS)


def of_clip(video: Video, tried: Callable[[], tuple[list[Trial], dict[str, Any]]], **settings: Any
            ) -> tuple[ClipResult, list[Trial]]:
    """What ``tried`` gives, trials and further columns of their clip, as the clip's result under these settings; if it
    fails, a result with an error and no trials."""
    result = ClipResult(
        clip=video.id, label=video.label, group=video.group, short_side=video.short_side, sha256=video.content,
        versions=tables.versions("av", "numpy"), **settings,
    )  # fmt: skip
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        trials, facts = tried()
    except Exception as error:  # one clip is one row, whatever happens
        code, message = tables.failure(error, limit=300)
        return replace(result, error=code, message=message), []
    return replace(
        result,
        detected=sum(trial.decision == "detected" for trial in trials),
        inconclusive=sum(trial.decision == "inconclusive" for trial in trials),
        min_log10_p=min((trial.log10_p for trial in trials if not math.isnan(trial.log10_p)), default=math.nan),
        seconds=round(time.perf_counter() - wall, 2),
        cpu_s=round(time.process_time() - cpu, 2),
        **facts,
    ), trials


def _check(video: Video, key: Key, trial: Trial, max_frames: int) -> None:
    """The numbers are worth something only if they are those of the detector that ships."""
    reading = reader.read_watermark(video.path, keys=[key], max_frames=max_frames, threads=1)
    if abs(reading.log10_p - trial.log10_p) > _AGREEMENT:
        raise GenwmError(
            f"Expected log10 p {reading.log10_p:.3f} as from read_watermark, got {trial.log10_p:.3f}; "
            "bring eval/false_alarms into line with detectors/search.py and detectors/watermark.py"
        )
