"""Loading pipelines: the class for the task, options, and models that cannot be had.

Built small from configuration, with random weights; no model is fetched.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from genwm import pipelines  # noqa: E402
from genwm.errors import FetchError, GenwmError, InputError, NotFoundError  # noqa: E402
from tests.genwm.pipelines import folders  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers and transformers warn of their own plans
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: folders.save(getattr(folders, name), root / name) for name in ("ltx", "stable_diffusion")}


# --- the class for the task


def entry(name: str) -> dict[str, Any]:
    """An index as a model of that class would have it."""
    import diffusers

    kind = getattr(diffusers, name)
    hints = pipelines.get_type_hints(kind.__init__)
    index: dict[str, Any] = {"_class_name": name}
    for part in set(hints) - {"return"}:
        held = (pipelines.get_args(hints[part]) or (hints[part],))[0]
        ours = getattr(held, "__module__", "").startswith("diffusers.")
        index[part] = ["diffusers" if ours else "transformers", getattr(held, "__name__", "")]
    return index


@pytest.mark.parametrize(
    ("model", "text", "image", "video"),
    [
        ("LTXPipeline", "LTXPipeline", "LTXImageToVideoPipeline", "LTXConditionPipeline"),
        ("LTXImageToVideoPipeline", "LTXPipeline", "LTXImageToVideoPipeline", "LTXConditionPipeline"),
        ("WanPipeline", "WanPipeline", "WanImageToVideoPipeline", "WanVideoToVideoPipeline"),
        ("WanVACEPipeline", "WanVACEPipeline", None, "WanVACEPipeline"),
        ("CogVideoXPipeline", "CogVideoXPipeline", "CogVideoXImageToVideoPipeline", "CogVideoXVideoToVideoPipeline"),
        ("AnimateDiffPipeline", "AnimateDiffPipeline", None, "AnimateDiffVideoToVideoPipeline"),
        ("Kandinsky5T2VPipeline", "Kandinsky5T2VPipeline", "Kandinsky5I2VPipeline", None),
        ("StableVideoDiffusionPipeline", None, "StableVideoDiffusionPipeline", None),
        ("MochiPipeline", "MochiPipeline", None, None),
    ],
)
def test_the_family_has_a_class_for_each_task(
    model: str, text: str | None, image: str | None, video: str | None
) -> None:
    import diffusers

    tasks: dict[pipelines.Task, str | None] = {"text": text, "image": image, "video": video}
    for task, expected in tasks.items():
        if expected is None:
            with pytest.raises(InputError, match="whose family has no such pipeline"):
                pipelines.pipeline_class(diffusers, entry(model), task)
        else:
            assert pipelines.pipeline_class(diffusers, entry(model), task).__name__ == expected


# --- loading, and what goes wrong


def test_savers_and_precision(models: dict[str, Path]) -> None:
    loaded = pipelines.load(models["ltx"], dtype="bfloat16", savers=("tiling", "slicing"))
    assert (loaded.dtype, loaded.device) == ("bfloat16", "cuda" if torch.cuda.is_available() else "cpu")
    vae = loaded.pipe.vae
    assert vae.dtype == torch.bfloat16
    assert vae.use_tiling
    assert vae.use_slicing
    assert vae.use_framewise_decoding


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"savers": ("offload",), "device": "cpu"}, InputError, "Expected a GPU to offload from"),
        ({"savers": ("offload", "group-offload"), "device": "cpu"}, InputError, "one kind of offloading"),
        ({"savers": ("magic",)}, InputError, "Expected savers to be among"),
        ({"dtype": "int3"}, InputError, "Expected dtype to be one of"),
        ({"quantize": "int2"}, InputError, "Expected quantize to be one of"),
        ({"savers": ("offload",), "device": "cpu:0"}, InputError, "Expected a GPU to offload from"),
        ({"device": "abacus"}, InputError, "Expected a torch device"),
        ({"device": "cuda:99"}, InputError, "Expected a device that this machine has, got cuda:99"),
        ({"revision": "main"}, InputError, "Expected no revision for the folder"),
    ],
)
def test_options_are_checked(
    models: dict[str, Path], options: dict[str, Any], error: type[GenwmError], message: str
) -> None:
    with pytest.raises(error, match=message):
        pipelines.load(models["ltx"], **options)


def test_a_number_beyond_the_devices_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="Expected a device that this machine has, got cuda:1; use --device cpu"):
        pipelines.load("none", device="cuda:1")


def test_still_image_pipelines_are_refused(models: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="makes video, got StableDiffusionPipeline, which does not"):
        pipelines.load(models["stable_diffusion"])


def test_unknown_folders(tmp_path: Path, models: dict[str, Path]) -> None:
    with pytest.raises(NotFoundError, match="Expected a folder at"):
        pipelines.load(tmp_path / "none")
    with pytest.raises(InputError, match="got an empty name"):
        pipelines.load("")
    with pytest.raises(InputError, match=r"without model_index\.json"):
        pipelines.load(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="got the file"):
        pipelines.load(tmp_path / "file")
    broken = tmp_path / "broken"
    shutil.copytree(models["ltx"], broken)
    weights = next((broken / "vae").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match="Expected every component"):
        pipelines.load(broken)
    (broken / "model_index.json").write_text("{")
    with pytest.raises(InputError, match="Expected readable JSON"):
        pipelines.load(broken)
    (broken / "model_index.json").write_text(json.dumps({"_class_name": "OfTomorrowPipeline"}))
    with pytest.raises(InputError, match="Expected a pipeline of the installed diffusers"):
        pipelines.load(broken)


def test_a_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    with pytest.raises(FetchError, match="a local folder"):
        pipelines.load("nobody/no-such-model", local_only=True)

    def fails(error: Exception) -> Any:
        def download(*args: object, **options: object) -> Iterator[None]:
            raise error

        return download

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fails(ConnectionError("no route")))
    with pytest.raises(FetchError, match=r"a local folder .*ConnectionError"):
        pipelines.load("nobody/no-such-model")
    def tells(*args: object, **options: object) -> None:
        assert logging.getLogger("huggingface_hub").level == logging.ERROR  # no line for every try
        raise ConnectionError("no route")

    before = logging.getLogger("huggingface_hub").level
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", tells)
    with pytest.raises(FetchError):
        pipelines.load("nobody/no-such-model")
    assert logging.getLogger("huggingface_hub").level == before
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fails(errors.HFValidationError("bad")))
    with pytest.raises(NotFoundError, match="or a model on the hub"):
        pipelines.load("nobody/no-such-model")
