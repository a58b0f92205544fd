"""Every video pipeline of the installed diffusers is covered or listed, and one family of each autoencoder is run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from genwm import decoding  # noqa: E402
from tests.genwm.pipelines import coverage, families  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers and transformers warn of their own plans
torch.set_num_threads(1)

whole = pytest.mark.skipif(families.shown() != families.FAMILIES, reason="the table counts a pipeline that diffusers "
                           "shows with OpenCV only; install genwm[tracks] or genwm[baselines]")


def _one_of_each_autoencoder() -> list[str]:
    """The families that ``make test`` runs; ``python -m tests.genwm.pipelines.coverage`` runs all."""
    found = decoding.video_pipelines()
    chosen: dict[str, str] = {}
    for name in sorted(families.shown(), key=lambda name: (len(coverage.decoding_of(found[name]).autoencoders), name)):
        vaes = coverage.decoding_of(found[name]).autoencoders
        chosen.setdefault(vaes[0], name)
    return sorted(chosen.values())


@pytest.mark.parametrize("name", _one_of_each_autoencoder())
def test_the_payload_reads_back_from_the_file_of_a_familys_own_pipeline(name: str, tmp_path: Path) -> None:
    result = coverage.run_family(name, tmp_path / "clip.mp4")
    assert result["payload"] == f"{coverage.MARK.payload:016x}"
    assert result["frames_marked"] >= result["frames"] > 1


@whole
def test_the_table_is_that_of_the_installed_diffusers() -> None:
    written = coverage.DOCS.read_text(encoding="utf-8")
    (version,) = re.findall(r"for diffusers ([\d.]*\d)", written)
    assert written == coverage.table(coverage.rows(), coverage.measured(), version)


@whole
def test_every_family_that_is_run_was_measured() -> None:
    assert set(coverage.measured()) == {row.pipeline for row in coverage.rows() if row.how == "run"}
    for row in coverage.measured().values():
        assert row["payload"] == f"{coverage.MARK.payload:016x}"


def test_a_new_pipeline_cannot_be_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    class NewVideoPipeline(diffusers.DiffusionPipeline):  # type: ignore[misc]
        def __call__(self) -> None:
            self.vae.decode(0)

    monkeypatch.setattr(diffusers, "NewVideoPipeline", NewVideoPipeline, raising=False)
    with pytest.raises(KeyError, match="Expected NewVideoPipeline to be run, counted or listed"):
        coverage.rows()


def test_what_is_counted_decodes_as_the_other_does() -> None:
    found = decoding.video_pipelines()
    for row in coverage.rows():
        if row.how == "counted":
            one, other = (coverage.decoding_of(found[name]) for name in (row.pipeline, row.detail))
            assert one == other
            assert one.calls == {"vae"}


def test_what_is_listed_exists() -> None:
    assert set(coverage.UNBUILT) <= set(decoding.video_pipelines())
    assert set(families.shown()) <= set(decoding.video_pipelines())
