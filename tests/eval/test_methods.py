"""Watermarks under test: their ids, the vote over frames, and the decision that is made for those that have none."""

from __future__ import annotations

import math
import pickle
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from click.testing import CliRunner

from eval import baselines, tables
from eval.attacks import Clip, Encode
from eval.attacks.insiders import UNMARKED
from eval.baselines import baseline
from eval.methods import (
    METHODS,
    Lattice,
    Outcome,
    PerFrame,
    bits_in,
    bits_of,
    is_keyed,
    known_method,
    method_id,
    method_named,
    methods_named,
    read_published,
)
from eval.methods.perframe import BITS, spread
from eval.report.faults import faults
from eval.robustness import Row, read_rows, run
from eval.robustness.command import robustness
from eval.robustness.runner import chance_log10
from eval.robustness.table import ADDED, COLUMNS, prepare
from genwm.errors import InputError, NotFoundError, OutputError
from genwm.keys import Key
from genwm.video import Planes, read_planes, write_video
from tests.clips import KEY, PAYLOAD, make_clip, scene
from tests.eval.foreign import Corner

FOREIGN = "tests.eval.foreign"


def need_baselines() -> None:
    """Skips a test where other people's marks are not installed."""
    pytest.importorskip("imwatermark", exc_type=ImportError,
                        reason="other people's marks are not tested: they need the extra 'baselines', and libGL")
    # It sets the start method of the whole process when it is imported, which a test before this one may have done.
    with patch("multiprocessing.set_start_method"):
        pytest.importorskip("blind_watermark", reason="blind_watermark is not tested: it needs the extra 'baselines'")


@pytest.fixture(scope="module")
def frames() -> list[Planes]:
    file = BytesIO()
    write_video(file, scene(320, 256, 4), fps=24, crf=4, preset="ultrafast", threads=1)
    file.seek(0)
    return [replace(p, y=p.y.copy(), u=p.u.copy(), v=p.v.copy()) for p in read_planes(file, threads=1)]


def lossless(frames: Iterable[Planes]) -> BytesIO:
    return Encode(codec="ffv1").write(list(frames), Clip([], 24).fps)  # type: ignore[arg-type]


# --- the registry ---


def test_ids_name_methods_and_rows_find_their_ids() -> None:
    for name, method in METHODS.items():
        assert methods_named([name, name]) == [method]
        assert method_id(method.name, method.strength, method.profile) == name
        assert pickle.loads(pickle.dumps(method)) == method  # workers get them
    assert method_id("toy", "balanced", "") == "toy.balanced"
    with pytest.raises(InputError, match=r"^Expected methods of lattice\.invisible, .* or module:object, got other; "):
        methods_named(["dwtDct", "other"])


def test_every_method_marks_and_reads_what_it_marked(frames: list[Planes]) -> None:
    need_baselines()
    for name in ("lattice.strong", "dwtDctSvd", "dwtDctSvd.majority", "blind"):
        method = METHODS[name]
        marked = list(method.mark(frames[:1], KEY, PAYLOAD))
        assert marked[0].y.shape == frames[0].y.shape
        outcome = method.read(lossless(marked), [KEY])
        if isinstance(method, Lattice):
            assert (outcome.detected, outcome.payload, outcome.message) == (True, PAYLOAD, None)
        else:
            assert outcome.message is not None
            right = np.mean(np.array(outcome.message) == bits_of(PAYLOAD, BITS))
            assert right >= 0.9, name
            assert not outcome.detected


def test_frames_too_small_for_a_method_are_not_read(frames: list[Planes]) -> None:
    small = [replace(one, y=one.y[:128, :160], u=one.u[:64, :80], v=one.v[:64, :80]) for one in frames]
    outcome = PerFrame(name="dwtDct").read(lossless(small), [])
    assert (outcome.detected, outcome.message, outcome.frames_read) == (False, None, 4)


def test_published_figures_are_those_of_the_peers() -> None:
    table = {(one.source.id, one.name): one for one in read_published()}
    assert len(table) == 7
    seal = table[("videoseal-sav", "Video Seal")]
    assert (seal.bits, seal.psnr, seal.accuracy["combined.crf23"]) == (128, 44.2, 0.81)
    assert all(0.4 < value <= 1 for one in table.values() for value in one.accuracy.values())
    assert all(one.source.conditions for one in table.values())


# --- the vote ---


@pytest.mark.parametrize(("count", "wanted"), [(5, 8), (8, 8), (9, 8), (72, 8), (1000, 4), (3, 1)])
def test_frames_to_read_are_spread_evenly(count: int, wanted: int) -> None:
    chosen = [int(one[0]) for one in spread((np.array([index]) for index in range(count)), wanted)]  # type: ignore[arg-type]
    assert len(chosen) == min(count, wanted)
    steps = np.diff(chosen)
    assert not len(steps) or steps.max() <= 2 * max(1, steps.min())
    assert chosen[0] == 0
    assert chosen[-1] >= count * (1 - 2 / wanted) - 1


def test_a_soft_vote_weighs_what_frames_say(monkeypatch: pytest.MonkeyPatch, frames: list[Planes]) -> None:
    """Two frames say 1 by a little, one says 0 with certainty: the majority is 1, the mean is 0."""
    scores = iter([0.6, 0.6, 0.0])

    def score(self: object, frame: object, bits: int) -> np.ndarray:  # type: ignore[type-arg]
        return np.full(bits, next(scores))

    bits = iter([1, 1, 0])

    def extract(self: object, frame: object, count: int) -> np.ndarray:  # type: ignore[type-arg]
        return np.full((1, count), next(bits), np.uint8)

    monkeypatch.setattr(baselines.Baseline, "score", score)
    monkeypatch.setattr(baselines.Baseline, "extract", extract)
    file = lossless(frames[:3])
    assert PerFrame(name="dwtDct").read(file, []).message == (0,) * 32
    file.seek(0)
    assert PerFrame(name="dwtDct", profile="majority").read(file, []).message == (1,) * 32


def test_scores_decide_as_the_packages_do() -> None:
    need_baselines()
    frame = scene(288, 256, 1)
    message = np.random.default_rng(3).integers(0, 2, BITS)
    for name in ("dwtDct", "dwtDctSvd", "blind"):
        method = baseline(name)
        marked = method.embed(frame, message)
        (bits,) = method.extract(marked, BITS)
        score = method.score(marked[0], BITS)
        assert score.shape == (BITS,)
        assert ((score >= 0.5) == bits).mean() > 0.95, name


def test_bits_are_the_lowest_and_start_with_the_highest() -> None:
    assert bits_of(0b1011, 4) == (1, 0, 1, 1)
    assert bits_of(0xFF00000001, 32) == (0,) * 31 + (1,)


# --- the decision for methods without one ---


def test_the_chance_of_agreement_is_that_of_fair_coins() -> None:
    counted = sum(math.comb(32, right) for right in range(30, 33)) / 2**32
    assert chance_log10(30, 32) == pytest.approx(math.log10(counted))
    assert chance_log10(0, 32) == pytest.approx(0)
    assert chance_log10(32, 32) == pytest.approx(-32 * math.log10(2))
    assert chance_log10(30, 32) <= -6 < chance_log10(29, 32)  # what peers.md calls .938 of 32 bits


@dataclass(frozen=True)
class Reads:
    """Gives the message with so many wrong bits, whatever it reads."""

    wrong: int
    payload: int = 0
    name: str = "reads"
    strength: str = "default"
    profile: str = "soft"

    def mark(self, frames: Iterable[Planes], key: Key, payload: int) -> Iterator[Planes]:
        object.__setattr__(self, "payload", payload)
        yield from frames

    def read(self, file: BytesIO, keys: Sequence[Key]) -> Outcome:
        message = bits_of(self.payload ^ ((1 << self.wrong) - 1), 32)
        return Outcome(None, message=message, frames_read=1)


@pytest.mark.parametrize(("wrong", "present", "exact"), [(0, 1, 1), (2, 1, 0), (3, 0, 0), (32, 0, 0)])
def test_a_method_without_a_decision_gets_one(tmp_path: Path, wrong: int, present: int, exact: int) -> None:
    make_clip(tmp_path / "clip.mp4", width=64, height=64, frames=2)
    options = {"attacks": ["none"], "min_short_side": 0, "processes": 1}
    (row,) = run(tmp_path, tmp_path / "out.csv", methods=[Reads(wrong)], **options)  # type: ignore[arg-type]
    assert (row.present, row.right_key, row.exact) == (present, present, exact)
    assert row.wrong_payload == 1 - exact  # it gives bits whatever it reads
    assert (row.bits, row.bit_accuracy) == (32, 1 - wrong / 32)
    assert row.log10_p == pytest.approx(chance_log10(32 - wrong, 32), abs=1e-3)


# --- methods that decide by themselves ---


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("gives", ["payload", "message"])
def test_messages_of_any_length_with_and_without_a_key_are_judged(
    tmp_path: Path, gives: str, bits: int, keyed: bool
) -> None:
    """All right on the marked clip, nothing in the control, and no fault; then one bit is wrong."""
    make_clip(tmp_path / "clip.mp4", width=64, height=80, frames=2)
    options = {"min_short_side": 0, "processes": 1, "attacks": ["none", UNMARKED]}
    method = Corner(gives=gives, bits=bits, keyed=keyed)
    marked, control = run(tmp_path, tmp_path / "out.csv", methods=[method], **options)  # type: ignore[arg-type]
    assert (marked.present, marked.right_key, marked.exact, marked.wrong_payload) == (1, 1, 1, 0)
    assert (marked.bits, marked.bit_accuracy, marked.log10_p) == (bits, 1, None)
    assert (control.present, control.right_key, control.exact, control.wrong_payload) == (0, 0, 0, 0)
    assert control.bits == bits
    assert faults([marked, control], {}) == []
    wrong, _ = run(tmp_path, tmp_path / "wrong.csv", methods=[replace(method, damage=4)], **options)  # type: ignore[arg-type]
    assert (wrong.present, wrong.right_key, wrong.exact, wrong.wrong_payload) == (1, 1, 0, 1)
    assert wrong.bit_accuracy == 1 - 1 / bits


def test_what_a_method_says_counts_and_not_how_many_bits_are_right(tmp_path: Path) -> None:
    """All bits are right and it says that there is no mark; without a decision it is granted one."""
    make_clip(tmp_path / "clip.mp4", width=64, height=80, frames=2)
    options = {"min_short_side": 0, "processes": 1, "attacks": ["none"]}

    class Denies(Corner):
        def read(self, file: BytesIO, keys: Sequence[Key]) -> Outcome:
            return super().read(file, keys)._replace(detected=False)

    denied, granted = run(
        tmp_path,
        tmp_path / "out.csv",
        methods=[Denies(name="denies", gives="message"), Corner(gives="bits")],
        **options,  # type: ignore[arg-type]
    )
    assert (denied.present, denied.right_key, denied.exact, denied.wrong_payload) == (0, 0, 0, 0)
    assert denied.bit_accuracy == 1
    assert (granted.present, granted.right_key, granted.exact, granted.bits) == (1, 1, 1, 64)
    assert granted.log10_p == pytest.approx(chance_log10(64, 64), abs=1e-3)


def test_a_method_with_a_key_that_names_none_has_not_found_it(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", width=64, height=80, frames=2)

    class Nameless(Corner):
        def read(self, file: BytesIO, keys: Sequence[Key]) -> Outcome:
            return super().read(file, keys)._replace(key="")

    options = {"min_short_side": 0, "processes": 1, "attacks": ["none"]}
    (row,) = run(tmp_path, tmp_path / "out.csv", methods=[Nameless()], **options)  # type: ignore[arg-type]
    assert (row.present, row.right_key, row.exact) == (1, 0, 0)


# --- methods of other modules ---


def test_a_watermark_is_named_by_its_module_and_object(frames: list[Planes]) -> None:
    method = method_named(f"{FOREIGN}:CORNER")
    assert methods_named([method.name, "dwtDct", method.name]) == [method, METHODS["dwtDct"]]
    assert method.name == f"{FOREIGN}:CORNER"
    assert (method.strength, method.profile, bits_in(method), is_keyed(method)) == ("balanced", "colour", 64, True)
    assert method_id(method.name, method.strength, method.profile) == method.name  # though its tags are those of ours
    keyless = method_named(f"{FOREIGN}:KEYLESS")
    assert (bits_in(keyless), is_keyed(keyless)) == (32, False)
    assert pickle.loads(pickle.dumps(keyless)) == keyless
    assert method_named(f"{FOREIGN}:Corner").strength == "default"  # a class that is made without arguments
    before = [one.y.copy() for one in frames]
    assert len(list(method.mark(frames, KEY, PAYLOAD))) == len(frames)
    assert all(np.array_equal(one.y, y) for one, y in zip(frames, before, strict=True))  # though it marks in place


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no.such.module:MARK", "ModuleNotFoundError"),
        ("tests.eval.foreign:NO", "AttributeError"),
        ("tests.eval.foreign:NOTHING", "got a int without strength, profile, mark, read; see Watermark"),
        ("tests.eval.foreign:Outcome", "TypeError"),
        (":MARK", "ValueError"),
    ],
)
def test_what_is_no_watermark_is_told_in_one_sentence(name: str, reason: str) -> None:
    with pytest.raises(InputError, match=f"^Expected a watermark at {name}, got .*") as told:
        methods_named([name])
    assert reason in str(told.value)
    assert "\n" not in str(told.value)
    assert known_method(name) is None


@pytest.mark.parametrize("processes", [1, 2])
def test_rows_of_a_foreign_watermark_can_be_measured_again(tmp_path: Path, processes: int) -> None:
    for name in ("a clip.mp4", "b.mp4"):
        make_clip(tmp_path / name, width=64, height=80, frames=2)
    methods = methods_named([f"{FOREIGN}:KEYLESS"])
    out = tmp_path / "out.csv"
    rows = run(tmp_path, out, methods=methods, attacks=["none"], min_short_side=0, processes=processes)
    assert {row.clip for row in rows} == {"a clip.mp4", "b.mp4"}
    assert all((row.watermark, row.exact, row.bits) == (f"{FOREIGN}:KEYLESS", 1, 32) for row in rows)
    (row,) = (row for row in rows if row.clip == "a clip.mp4")
    words = shlex.split(row.command)
    assert words[:3] == ["genwm", "eval", "robustness"]
    result = CliRunner().invoke(robustness, [*words[3:-1], str(tmp_path / "row.csv"), "--processes", "1"])
    assert result.exit_code == 0, result.output
    (again,) = read_rows(tmp_path / "row.csv")
    assert (again.key, again.exact, again.bits) == (row.key, 1, 32)


def test_rows_say_how_to_measure_them_again(tmp_path: Path) -> None:
    make_clip(tmp_path / "a clip.mp4", width=96, height=64, frames=2)
    options = {"attacks": ["none"], "min_short_side": 0, "processes": 1, "lines": 32, "seed": 3}
    methods = [METHODS["lattice.strong"], Reads(0)]
    row, unnamed = run(tmp_path, tmp_path / "out.csv", methods=methods, **options)  # type: ignore[arg-type]
    assert row.span == "72f@32"
    assert row.short_side == unnamed.short_side == 32
    assert row.command.endswith(
        "--clip 'a clip.mp4' --attacks none --methods lattice.strong --max-frames 72 --lines 32 --seed 3 "
        "--out row.csv"
    )
    assert unnamed.command == ""  # no command has an object that was passed
    with pytest.raises(NotFoundError, match=r"got nowhere\.mp4"):
        run(tmp_path, tmp_path / "out.csv", methods=[Reads(0)], clips=["nowhere.mp4"], **options)  # type: ignore[arg-type]


# --- older tables ---


def old_row() -> Row:
    tags = {"label": "real", "group": "", "family": "", "short_side": 480, "frames": 72, "span": "72f"}
    subject = {"attack": "h264.crf30", "watermark": "lattice", "strength": "balanced", "profile": "colour"}
    return Row(clip="a.mp4", present=1, log10_p=-9.5, **tags, **subject)  # type: ignore[arg-type]


def test_a_table_from_before_a_column_was_added_is_read_and_continued(tmp_path: Path) -> None:
    path, columns = tmp_path / "old.csv", [name for name in COLUMNS if name not in ADDED]
    row = old_row()
    tables.rewrite(path, columns, [[getattr(row, name) for name in columns]])
    assert read_rows(path) == [row]
    assert prepare(path) == [row]
    assert path.read_text().splitlines()[0].split(",") == list(COLUMNS)
    assert read_rows(path) == [row]


def test_a_table_that_lacks_another_column_is_refused(tmp_path: Path) -> None:
    path, columns = tmp_path / "other.csv", [name for name in COLUMNS if name != "attack"]
    tables.rewrite(path, columns, [])
    with pytest.raises(OutputError, match="another"):
        read_rows(path)
