"""What the decode hook costs, on a decoder small enough to try."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from eval import hook_cost  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def threads() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_row_says_what_was_measured(dtype: str) -> None:
    row = hook_cost.measure(8, 64, 96, 2, 2, dtype=dtype)
    assert (row["frames"], row["size"]) == (5, "96x64")
    assert row["bit_exact_when_detached"]
    assert row["same_latent_same_clip"]
    assert row["marked"]
    assert row["share"] == pytest.approx(row["mark_s"] / row["decode_s"], rel=0.1)
    assert row["mark_s"] > 0


def test_memory_counts_what_the_hook_holds() -> None:
    row = hook_cost.memory(240, 416)
    assert 0.2 < row["peak_frames"] <= hook_cost.TARGET_FRAMES < row["peak_frames_first"] + 1


def test_a_gpu_that_is_not_there_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["hook_cost", "--device", "cuda", "--out", str(tmp_path / "cost.json")])
    with pytest.raises(SystemExit):
        hook_cost.main()
    assert "Expected a GPU" in capsys.readouterr().err
    assert not (tmp_path / "cost.json").exists()


def test_the_committed_result_is_within_its_limits() -> None:
    result = json.loads((Path(__file__).parents[2] / "docs/results/hook-cost.json").read_text())
    assert all(row["share"] <= result["target"]["share"] for row in result["rows"])
    assert all(row["peak_frames"] <= result["target"]["peak_frames"] for row in result["memory"])
