"""Generated clips after a cut and H.264: the runs are real and small, and whatever fails is a row."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from eval import generated  # noqa: E402
from genwm.scenes import scene  # noqa: E402
from tests.genwm.pipelines import families  # noqa: E402
from tests.genwm.pipelines.coverage import frames_of  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers and transformers warn of their own plans
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SIDE", 320), ("FRAMES", 9), ("CUTS", 1), ("_limit_memory", lambda gigabytes: None)):
        monkeypatch.setattr(generated, name, value)


def run(*args: object) -> tuple[int, list[dict[str, str]]]:
    result = CliRunner().invoke(generated.generated, [str(part) for part in args])
    path = Path(str(args[args.index("--out") + 1]))
    with path.open(encoding="utf-8", newline="") as file:
        return result.exit_code, list(csv.DictReader(file))


def test_rows_are_measured_once_and_summed_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "generated.csv"
    generate = generated._generate

    def generates(family: str, *rest: Any) -> None:
        if family == "LattePipeline":
            raise RuntimeError("no room")
        generate(family, *rest)

    monkeypatch.setattr(generated, "_generate", generates)
    status, rows = run("--out", out, "--family", "LTXPipeline", "--family", "LattePipeline")
    assert status == 0
    by = {(row["pipeline"], row["content"]): row for row in rows}
    assert len(by) == len(rows) == 4
    scenes = by["LTXPipeline", "scene"]
    assert (scenes["error"], scenes["width"], scenes["frames"], scenes["cuts"]) == ("", "320", "9", "1")
    assert float(scenes["log10_p"]) < -30
    assert int(scenes["exact"]) <= int(scenes["detected"]) == 1
    assert "RuntimeError" in by["LattePipeline", "scene"]["error"]
    text = out.with_suffix(".md").read_text(encoding="utf-8")
    assert "* errors: 2" in text
    assert f"| {scenes['exact']} of 1 |" in text
    monkeypatch.setattr(generated, "measure", lambda *_: pytest.fail("measured again"))
    assert run("--out", out, "--family", "LTXPipeline", "--family", "LattePipeline") == (0, rows)


def test_the_scene_is_what_comes_out(tmp_path: Path) -> None:
    for family in ("WanPipeline", "AnimateDiffPipeline", "AllegroPipeline"):  # videos, frames in chunks, frames first
        pipe, arguments = families.build(family)
        arguments = {**generated._longer(family, arguments), "width": 64, "height": 64}
        with generated._drawing(pipe.vae):
            clip = frames_of(pipe(**arguments)).astype(int)
        assert np.abs(clip - scene(64, 64, 9)).max() <= 1
        assert "decode" not in vars(pipe.vae)


def test_what_fails_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(generated, "_generate", fails)
    row = generated.measure("WanPipeline", "AutoencoderKLWan", "scene")
    assert (row.error, row.exact) == ("internal: MemoryError:", None)


def test_an_unknown_family_and_another_table(tmp_path: Path) -> None:
    assert CliRunner().invoke(generated.generated, ["--out", str(tmp_path / "a.csv"), "--family", "X"]).exit_code == 2
    (tmp_path / "b.csv").write_text("a,b\n1,2\n")
    assert CliRunner().invoke(generated.generated, ["--out", str(tmp_path / "b.csv")]).exit_code == 2
    assert (tmp_path / "b.csv").read_text() == "a,b\n1,2\n"


def test_cheap_pipelines_come_first() -> None:
    order = [pipeline for pipeline, _, content in generated._jobs(()) if content != "scene"]
    assert order[0] == "embedded"
    assert set(order[1:]) <= set(families.shown())
    assert len(order) == len(set(order)) > 20
