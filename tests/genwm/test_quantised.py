"""Quantised loading on a CPU, through each library that diffusers supports and that is installed: payload read back.

The pipelines are small, with random weights. The development packages bring optimum-quanto, so int8 always runs.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from genwm import cli, pipelines, quantised  # noqa: E402
from genwm.errors import InputError, MissingExtraError  # noqa: E402
from genwm.generation import Request, generate  # noqa: E402
from genwm.keys import Keyring  # noqa: E402
from genwm.marking import Mark  # noqa: E402
from tests.clips import KEY, PAYLOAD  # noqa: E402
from tests.genwm.pipelines import folders  # noqa: E402

torch.set_num_threads(1)

ON_CPU = [(backend, quantize) for backend in quantised.BACKENDS if backend.on_cpu for quantize in backend.make]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.save(folders.ltx, tmp_path_factory.mktemp("models") / "ltx")


@pytest.fixture(params=ON_CPU, ids=lambda pair: f"{pair[0].package}-{pair[1]}")
def precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> quantised.Quantize:
    """int8 or int4, by one library alone; skipped where that cannot be."""
    backend, quantize = request.param
    if not quantised.installed(backend.module):
        pytest.skip(f"{backend.package} is not installed; run: pip install {backend.package}")
    if (backend.package, quantize) == ("optimum-quanto", "int4"):
        from optimum.quanto.library.extensions import cpp

        # What quanto's kernel computes: compiling that takes a minute, and a compiler.
        kernel = SimpleNamespace(unpack=lambda packed, bits: torch.cat([packed & 15, packed >> 4]))
        monkeypatch.setattr(cpp.ext, "_lib", kernel)
    monkeypatch.setattr(quantised, "BACKENDS", (backend,))
    return quantize


def test_one_library_is_among_the_development_packages() -> None:
    assert any(quantised.installed(backend.module) for backend, _ in ON_CPU), "run: pip install 'genwm[quantize]'"


def weights(part: Any) -> dict[str, Any]:
    return {name: value for name, value in part.named_parameters() if value.ndim == 2 and name.endswith("weight")}


def test_the_denoiser_is_quantised_and_nothing_else(model: Path, precision: quantised.Quantize) -> None:
    plain, loaded = (pipelines.load(model, device="cpu", quantize=chosen) for chosen in (None, precision))
    assert (plain.quantize, loaded.quantize) == (None, precision)
    before, after = weights(plain.pipe.transformer), weights(loaded.pipe.transformer)
    changed = [name for name in before if type(after[name]) is not type(before[name])]
    assert len(changed) > len(before) / 2
    step = 2 / (256 if precision == "int8" else 16)  # of a row or a group, relative to its largest weight
    for name in changed:
        values = after[name].dequantize().float()
        gap = (values - before[name]).abs().max() / before[name].abs().max()
        assert 0 < gap < 1.01 * step
    for part in ("vae", "text_encoder"):
        for name, value in weights(getattr(plain.pipe, part)).items():
            assert torch.equal(value, dict(getattr(loaded.pipe, part).named_parameters())[name])


def test_the_clip_is_nearly_that_of_the_whole_weights(model: Path, precision: quantised.Quantize) -> None:
    request = Request(prompt="a red car", width=64, height=64, frames=9, steps=2, seed=3)
    pair = (pipelines.load(model, device="cpu", quantize=chosen) for chosen in (None, precision))
    whole, quantised = (np.stack(list(generate(one, request, Mark(KEY, PAYLOAD)).frames)) for one in pair)
    assert (whole != quantised).any()
    assert np.corrcoef(whole.ravel(), quantised.ravel())[0, 1] > 0.9


def test_the_payload_reads_back_from_the_file(
    tmp_path: Path, model: Path, precision: quantised.Quantize, capsys: pytest.CaptureFixture[str]
) -> None:
    Keyring.load().new("studio")
    out = tmp_path / "out.mp4"
    status = cli.run([
        "generate", "a red car", "-o", str(out), "--model", str(model), "--quantize", precision, "--device", "cpu",
        "--width", "256", "--height", "256", "--frames", "9", "--steps", "2", "--strength", "strong",
        "--payload", f"{PAYLOAD:016x}", "--json"])
    record = json.loads(capsys.readouterr().out)
    assert (status, record["quantize"], record["payload"]) == (0, precision, f"{PAYLOAD:016x}")
    assert cli.run(["verify", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["watermark"]["payload"] == f"{PAYLOAD:016x}"


@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_without_a_library_one_is_named(
    model: Path, quantize: quantised.Quantize, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantised, "installed", lambda module: False)
    with pytest.raises(MissingExtraError, match=f"for {quantize} weights on cpu, got none installed; run: pip install"):
        pipelines.load(model, quantize=quantize, device="cpu")


def test_without_a_compiler_that_is_said(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = pipelines.load(model, device="cpu")

    def fails(*args: object, **options: object) -> None:
        raise RuntimeError("Ninja is required to load C++ extensions (pip install ninja to get it)")

    monkeypatch.setattr(loaded.pipe.transformer, "forward", fails)
    loaded = pipelines.Loaded(loaded.pipe, loaded.model, None, "text", "cpu", "float32", "int4")
    with pytest.raises(MissingExtraError, match=r"Expected a C\+\+ compiler and ninja .* or use --quantize int8"):
        generate(loaded, Request(prompt="a red car", width=64, height=64, frames=9, steps=1), Mark(KEY, PAYLOAD))


def test_what_has_no_denoiser_is_refused() -> None:
    with pytest.raises(InputError, match="Expected a model with a transformer or a unet to quantise"):
        quantised.per_component({"vae": ["diffusers", "AutoencoderKL"]}, lambda: None)


def test_the_environments_ninja_is_found_without_activating_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts, bare = tmp_path / "scripts", tmp_path / "bare"
    for folder in (scripts, bare):
        folder.mkdir()
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(scripts))
    monkeypatch.setenv("PATH", str(bare))
    diffusers: Any = SimpleNamespace(QuantoConfig=lambda weights_dtype: weights_dtype)
    assert quantised.QUANTO.make["int4"](diffusers) == "int4"
    assert shutil.which("ninja") is None  # there is none: the path stays
    (scripts / "ninja").touch(mode=0o755)
    assert quantised.QUANTO.make["int4"](diffusers) == "int4"
    assert shutil.which("ninja") == str(scripts / "ninja")
    assert os.environ["PATH"].split(os.pathsep)[0] == str(bare)  # what the user has comes first
