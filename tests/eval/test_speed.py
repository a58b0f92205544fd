"""The benchmarks at toy size: what they measure, not how fast this machine is."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from detectors.search import Search
from eval import speed
from eval.speed import benchmarks, report
from genwm.errors import GenwmError

TOY = speed.Settings(width=160, height=128, short_s=1, long_s=0, repeats=1, footage=6)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> speed.Clips:
    return speed.make_clips(tmp_path_factory.mktemp("clips"), TOY)


def test_embedding_is_measured_for_each_way_to_call_it(clips: speed.Clips) -> None:
    found = {item.name: item for item in benchmarks.embedding(clips, TOY)}
    for name in ("embed.yuv", "embed.planes", "embed.rgb"):
        assert found[name].limit == 10
        assert found[name].wall
        assert found[f"{name}.over-decode"].unit == "x"
    assert found["decode"].wall
    assert found["encode"].wall


def test_verification_is_split_into_decoding_and_search(clips: speed.Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that takes a known time shows up as search and not as reading."""
    calls: list[int] = []

    def slow(self: Search, evidence: object, *, thorough: bool) -> bool:
        calls.append(len(self.keys))
        time.sleep(0.05 * len(self.keys))
        return False

    monkeypatch.setattr(Search, "look", slow)
    found = {item.name: item for item in benchmarks.verification(clips, TOY)}
    looks = 2  # 25 frames: key frames, then all of them
    assert set(calls) == {1, benchmarks.KEYS}
    assert found["search.one-key"].wall == pytest.approx(0.05 * looks, rel=0.5)
    assert found["search.further-key"].wall == pytest.approx(0.05 * looks, rel=0.5)
    assert "25 frames, 2 looks" in found["read.unmarked"].note
    over = found["read.unmarked.over-decode"]
    assert over.wall == pytest.approx(found["read.unmarked"].wall / found["decode-alone.unmarked"].wall, rel=0.05)
    whole = found["read.unmarked"].wall + found["search.one-key"].wall - 1.3 * found["decode-alone.unmarked"].wall
    assert found["verification.unmarked"].wall == pytest.approx(whole, abs=0.001)  # of one run, but for rounding
    assert found["verification.unmarked"].limit == 0.5
    # The sleep is most of it: what a single run's reading and decoding differ by is little.
    assert found["verification.unmarked.keys"].wall == pytest.approx(0.05 * looks * benchmarks.KEYS, abs=0.1)
    assert found["verification.unmarked.keys"].limit == pytest.approx(0.7)


def test_a_child_is_measured_by_itself() -> None:
    ballast = bytearray(150_000_000)  # of this process: must not count
    ballast[::4096] = b"1" * len(ballast[::4096])
    child = speed.run_child([sys.executable, "-S", "-c", "pass"])
    assert child.status == 0
    assert 1 < child.memory_mb < 60
    large = speed.run_child([sys.executable, "-S", "-c", "x = bytearray(b'1') * 100_000_000"])
    assert large.memory_mb > 100
    slept = speed.run_child([sys.executable, "-S", "-c", "import time; time.sleep(0.2)"])
    assert slept.cost.wall_s >= 0.2
    assert slept.cost.cpu_s < 0.2
    ends = [sys.executable, "-S", "-c", "import os; os._exit(int(os.environ['X']))"]
    assert speed.run_child(ends, env={"X": "3"}, statuses=(0, 3)).status == 3


def test_a_command_that_fails_is_an_error() -> None:
    with pytest.raises(GenwmError, match=r"status 1: .*ZeroDivisionError"):
        speed.run_child([sys.executable, "-S", "-c", "1 / 0"])
    with pytest.raises(GenwmError, match=r"status 2: .*the reason"):
        speed.run_child([sys.executable, "-S", "-c", "import sys; print('the reason', file=sys.stderr); sys.exit(2)"])
    with pytest.raises(GenwmError, match="Expected to start"):
        speed.run_child(["/no/such/program"])


def test_limits_are_judged() -> None:
    kept, missed = speed.result("help", "s", 0.2, 0.1), speed.result("help", "s", 0.4, 0.2)
    assert (kept.met, missed.met, missed.met_cpu) == (True, False, True)
    assert "kept" in speed.describe(kept)
    assert "MISSED" in speed.describe(missed)
    assert "kept in processor time" in speed.describe(missed)
    assert speed.result("decode", "s", 1.0).met is None


def test_the_report_goes_on_past_a_benchmark_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(clips: speed.Clips, settings: speed.Settings) -> list[speed.Result]:
        raise RuntimeError("no")

    def works(clips: speed.Clips, settings: speed.Settings) -> list[speed.Result]:
        assert clips.short.exists()
        assert clips.short_marked.exists()
        return [speed.result("help", "s", 0.1, 0.1)]

    monkeypatch.setattr(report, "BENCHMARKS", {"one": fails, "two": works})
    out = tmp_path / "deep" / "speed.json"
    arguments = ["--out", str(out), "--width", "160", "--height", "128", "--short-seconds", "1", "--long-seconds", "0"]
    done = CliRunner().invoke(speed.speed, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    written = json.loads(out.read_text())
    assert written["schema"] == "genwm.speed/1"
    assert [(item["name"], item["error"], item["met"]) for item in written["results"]] == [
        ("one", "RuntimeError: no", None),
        ("help", "", True),
    ]
    assert written["settings"]["width"] == 160
    assert written["machine"]["cores"]


def test_the_report_is_a_page_and_json_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jinja2", reason="pages are not tested: they need the extra 'report'")
    figures = [speed.result("help", "s", 9.0, 0.1), speed.result("decode", "ms a frame", 1.5, 1.5, "a | note")]
    monkeypatch.setattr(report, "make_clips", lambda folder, settings: None)
    monkeypatch.setattr(report, "BENCHMARKS", {"one": lambda clips, settings: figures})
    out = tmp_path / "speed.json"
    done = CliRunner().invoke(speed.speed, ["--out", str(out), "--html", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads(out.read_text())
    page = out.with_suffix(".html").read_text()
    missed, everything = page.split("<section>")[1:]
    assert "<h2>Limits that are missed, and failures</h2>" in missed
    assert "in processor time" in missed
    assert "decode" not in missed
    assert "a / note" in everything
