"""``genwm generate``: what it writes reads back and says that it is synthetic, and a failure leaves nothing behind."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from dataclasses import asdict
from functools import partialmethod
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import av
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from genwm import cli, pipelines  # noqa: E402
from genwm.commands import generate  # noqa: E402
from genwm.generation import Request  # noqa: E402
from genwm.keys import Keyring  # noqa: E402
from genwm.registry import Registry  # noqa: E402
from genwm.temporal import steadiness  # noqa: E402
from genwm.video import probe, read_rgb, write_image  # noqa: E402
from tests.clips import PAYLOAD, make_clip, scene  # noqa: E402
from tests.genwm.pipelines import folders  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers and transformers warn of their own plans
torch.set_num_threads(1)

HEX = f"{PAYLOAD:016x}"
PROMPT = "a red car turns left"
SMALL = ("--width", 256, "--height", 256, "--frames", 9, "--steps", 2, "--strength", "strong", "--payload", HEX)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.save(folders.ltx, tmp_path_factory.mktemp("models") / "ltx")


@pytest.fixture
def ring() -> Keyring:
    ring = Keyring.load()
    ring.new("studio")
    return ring


@pytest.fixture
def unloadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model fails the test."""
    monkeypatch.setattr(pipelines, "load", lambda *_, **__: pytest.fail("a model was loaded"))


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, Any, str]:
    """Exit status, what stdout holds (parsed JSON or ''), and stderr."""
    status = cli.run(["generate", *map(str, args)])
    out, err = capsys.readouterr()
    return status, json.loads(out) if out else "", err


def test_a_clip_and_its_record(
    tmp_path: Path, model: Path, ring: Keyring, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.mp4"
    status, record, err = run(capsys, PROMPT, "-o", out, "--model", model, *SMALL, "--seed", 7, "--report", "--json")
    assert (status, err) == (0, "")
    assert record == json.loads((tmp_path / "out.mp4.json").read_text())
    expected = {
        "schema": "genwm.generation/1", "file": "out.mp4", "model": str(model), "revision": None,
        "pipeline": "LTXPipeline", "task": "text", "scheduler": "FlowMatchEulerDiscreteScheduler", "seed": 7,
        "prompt": None, "prompt_sha256": hashlib.sha256(PROMPT.encode()).hexdigest(), "key": "studio",
        "key_id": ring.get("studio").id, "payload": HEX, "strength": "strong", "width": 256, "height": 256,
        "frames": 9, "fps": 25, "steps": 2, "guidance": 3, "codec": "h264", "quantize": None,
    }  # fmt: skip
    assert expected.items() <= record.items()
    assert set(record["seconds"]) == {"load", "denoise", "decode_and_encode", "verify"}
    assert record["versions"]["diffusers"]
    assert ring.get("studio").secret.hex() not in json.dumps(record)
    report = json.loads((tmp_path / "out.mp4.report.json").read_text())
    assert (report["schema"], report["frames"]) == ("genwm.steadiness/2", 9)
    assert set(report["units"]) == {"flicker", "warping_error", "unsteadiness", "followed"}
    frames = np.stack([frame for _, frame in read_rgb(out)])
    for name, value in asdict(steadiness(frames)).items():
        assert report[name] == (None if np.isnan(value) else pytest.approx(value, rel=0.05))
    assert cli.run(["verify", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["watermark"]
    assert (found["key"], found["payload"]) == ("studio", HEX)
    assert sorted(path.name for path in tmp_path.glob("*out*")) == ["out.mp4", "out.mp4.json", "out.mp4.report.json"]


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "h264"), ("mkv", "h264"), ("webm", "vp9")])
def test_the_file_says_that_it_is_synthetic(
    tmp_path: Path, model: Path, ring: Keyring, suffix: str, codec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"out.{suffix}"
    status, _, err = run(capsys, PROMPT, "-o", out, "--model", model, *SMALL, "--keep-prompt")
    assert (status, "read back" in err) == (0, True)
    with av.open(str(out)) as container:
        metadata = {name.lower(): value for name, value in container.metadata.items()}
    assert "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia" in metadata["comment"]
    assert "Synthetic" in metadata["description"]
    assert probe(out).codec == codec
    assert json.loads(Path(f"{out}.json").read_text())["prompt"] == PROMPT


def test_a_transport_stream_says_it_in_the_name_of_its_service(
    tmp_path: Path, model: Path, ring: Keyring, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.ts"
    assert run(capsys, PROMPT, "-o", out, "--model", model, *SMALL)[0] == 0
    assert b"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia" in out.read_bytes()[:376]
    assert probe(out).codec == "h264"


def test_a_signed_clip(tmp_path: Path, model: Path, ring: Keyring, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("c2pa")
    from genwm.provenance import Binding, read
    from tests.certificates import make_certificates

    made, out = make_certificates(tmp_path), tmp_path / "out.mp4"
    status, record, err = run(
        capsys, PROMPT, "-o", out, "--model", model, *SMALL, "--sign", made.chain, made.key, "--json")
    assert (status, err, record["signed"]) == (0, "", True)
    found = read(out, trust=made.authority)
    assert (found.status, found.declares_generated) == ("valid", True)
    assert found.binding == Binding(ring.get("studio").id, HEX)
    assert str(tmp_path).encode() not in out.read_bytes()
    assert cli.run(["verify", str(out), "--json"]) == 0


def test_the_script_of_the_pages(tmp_path: Path, ring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("c2pa")
    from genwm.provenance import read
    from tests.certificates import make_certificates

    page = (Path(__file__).parents[2] / "docs" / "generate.md").read_text()
    (script,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    pipe = folders.ltx()
    small = partialmethod(type(pipe).__call__, width=256, height=256, num_frames=9, num_inference_steps=2)
    monkeypatch.setattr(type(pipe), "__call__", small)
    certificates = make_certificates(tmp_path)
    for name, path in (("chain.pem", certificates.chain), ("key.pem", certificates.key)):
        path.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"pipe": pipe, "prompt": PROMPT}
    exec(script, names)
    mark = names["mark"]
    found = read(tmp_path / "out.mp4")
    assert (found.status, found.declares_generated) == ("valid_untrusted", True)
    assert found.binding is not None
    assert found.binding.payload == f"{mark.payload:016x}"
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert "trainedAlgorithmicMedia" in container.metadata["comment"]
    assert cli.run(["verify", str(tmp_path / "out.mp4")]) == 0
    assert len(Registry()) == 1


def test_the_registry_knows_the_clip(
    tmp_path: Path, model: Path, ring: Keyring, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, options in enumerate(((), ("--no-registry",))):
        out = tmp_path / f"{number}.mp4"
        status, record, _ = run(capsys, PROMPT, "-o", out, "--model", model, *SMALL, *options, "--json")
        assert (status, record["registered"]) == (0, not options)
    assert len(Registry()) == 1
    frames = np.stack([frame for _, frame in read_rgb(tmp_path / "0.mp4")])
    found = Registry().lookup(PAYLOAD, frames, key_id=ring.get("studio").id)
    assert found.entry is not None
    assert (found.status, found.entry.model, found.entry.file) == ("match", str(model), "0.mp4")
    assert found.entry.prompt_sha256 == hashlib.sha256(PROMPT.encode()).hexdigest()
    assert Registry().lookup(PAYLOAD, scene(256, 256, 9)).status != "match"


def test_a_seed_is_a_clip(tmp_path: Path, model: Path, ring: Keyring, capsys: pytest.CaptureFixture[str]) -> None:
    clips = []
    for number, seed in enumerate((3, 3, 4)):
        out = tmp_path / f"{number}.mp4"
        assert run(capsys, PROMPT, "-o", out, "--model", model, *SMALL, "--seed", seed)[0] == 0
        clips.append(np.stack([frame for _, frame in read_rgb(out)]))
    assert (clips[0] == clips[1]).all()
    assert (clips[0] != clips[2]).any()


@pytest.mark.parametrize(("option", "pipeline"), [("--image", "LTXImageToVideoPipeline"),
                                                  ("--video", "LTXConditionPipeline")])
def test_from_a_picture_or_a_video(
    tmp_path: Path, model: Path, ring: Keyring, option: str, pipeline: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "in.png", scene(320, 256, 1)[0])
    make_clip(tmp_path / "in.mp4", frames=9, fps=12)
    source = tmp_path / ("in.png" if option == "--image" else "in.mp4")
    out = tmp_path / "out.mp4"
    status, record, _ = run(capsys, PROMPT, option, source, "-o", out, "--model", model, *SMALL, "--json")
    assert (status, record["pipeline"], record["task"]) == (0, pipeline, option[2:])
    assert record[f"{option[2:]}_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert record["fps"] == (25 if option == "--image" else 12)  # that of the pipeline, or of the video


def test_outputs_that_exist_are_kept(
    tmp_path: Path, model: Path, ring: Keyring, unloadable: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("out.mp4", "out.mp4.json", "out.mp4.report.json"):
        (tmp_path / name).write_text("mine")
        status, record, _ = run(
            capsys, PROMPT, "-o", tmp_path / "out.mp4", "--model", model, *SMALL, "--report", "--json")
        assert (status, record["error"]["code"]) == (2, "output-exists")
        assert f"no file at {tmp_path / name}, got one; " in record["error"]["message"]
        assert "give --overwrite" in record["error"]["message"]
        assert [path.read_text() for path in tmp_path.glob("out*")] == ["mine"]
        (tmp_path / name).unlink()


@pytest.mark.parametrize(
    ("out", "options"),
    [
        ("in.mp4", ("--video", "IN/in.mp4")),
        ("link.mp4", ("--video", "IN/in.mp4")),
        ("other.mp4", ("--image", "IN/other.mp4.json")),
        ("other.mp4", ("--report", "--image", "IN/other.mp4.report.json")),
        ("other.mp4", ("--sign", "IN/other.mp4.json", "IN/key.pem")),
        ("other.mp4", ("--sign", "IN/chain.pem", "IN/other.mp4")),
        ("model/extra.mp4", ("--model", "IN/model")),
    ],
)
def test_an_input_is_never_an_output(
    tmp_path: Path, ring: Keyring, unloadable: None, capsys: pytest.CaptureFixture[str], out: str,
    options: tuple[str, ...],
) -> None:
    make_clip(tmp_path / "in.mp4", frames=9)
    (tmp_path / "link.mp4").symlink_to(tmp_path / "in.mp4")
    (tmp_path / "model").mkdir()
    for name in ("other.mp4", "other.mp4.json", "other.mp4.report.json", "model/extra.mp4", "model/model_index.json"):
        (tmp_path / name).write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    given = [part.replace("IN", str(tmp_path)) for part in options]
    status, record, _ = run(capsys, PROMPT, "-o", tmp_path / out, *SMALL, *given, "--overwrite", "--json")
    assert (status, record["error"]["code"]) == (2, "output-is-input")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_outputs_that_exist_are_replaced_when_asked(
    tmp_path: Path, model: Path, ring: Keyring, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("out.mp4", "out.mp4.json"):
        (tmp_path / name).write_text("mine")
    assert run(capsys, PROMPT, "-o", tmp_path / "out.mp4", "--model", model, *SMALL, "--overwrite")[0] == 0
    assert probe(tmp_path / "out.mp4").codec == "h264"
    assert json.loads((tmp_path / "out.mp4.json").read_text())["payload"] == HEX


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (("--payload", "xyz"), "bad-payload", "1 to 16 hex digits"),
        (("--key", "none"), "key-missing", "none"),
        (("-o", "OUT/out.xyz"), "unsupported-format", "output name ending in"),
        (("-o", "OUT/out.gif"), "unsupported-format", "got"),
        (("-o", "OUT/none/out.mp4"), "bad-output", "create it first"),
        (("-o", "OUT/folder.mp4"), "bad-output", "got the folder"),
        (("-o", "OUT/out.webm", "--codec", "h264"), "unsupported-format", "codec that fits into out.webm"),
        (("--crf", "60"), "bad-input", "0 to 51 for h264, got 60"),
        (("--sign", "OUT/none.pem", "OUT/none.pem"), "not-found", "PEM file of certificates"),
        (("--frames", "2", "--report"), "bad-input", "Expected 3 frames or more for --report"),
        (("--negative-prompt", "r\udcff"), "bad-input", r"--negative-prompt in UTF-8, got 'r\xff'"),
        (("--fps", "nan"), "usage", "nan is not a number"),
        (("--guidance", "inf"), "usage", "inf is not a number"),
        (("--image", "OUT/none.png"), "not-found", "none.png"),
        (("--video", "OUT/in.png"), "bad-input", "give it with --image"),
        (("--image", "OUT/in.png", "--video", "OUT/in.png"), "bad-input", "got both"),
    ],
)
def test_what_is_wrong_is_said_before_a_model_is_loaded(
    tmp_path: Path, model: Path, ring: Keyring, unloadable: None, capsys: pytest.CaptureFixture[str],
    change: tuple[str, ...], code: str, words: str,
) -> None:
    write_image(tmp_path / "in.png", scene(64, 64, 1)[0])
    (tmp_path / "folder.mp4").mkdir()
    changed = [part.replace("OUT", str(tmp_path)) for part in change]
    status, record, err = run(
        capsys, PROMPT, "-o", tmp_path / "out.mp4", "--model", model, *SMALL, *changed, "--json")
    assert (status, record["error"]["code"]) == (2, code)
    assert words in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["in.png"]


def test_no_key_and_no_prompt(
    tmp_path: Path, model: Path, unloadable: None, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.mp4"
    assert "error[key-missing]" in run(capsys, PROMPT, "-o", out, "--model", model)[2]
    Keyring.load().new("studio")
    for prompt in ("", " \n"):
        assert "Expected a prompt" in run(capsys, prompt, "-o", out, "--model", model)[2]


def test_without_an_embedded_pipeline_a_model_is_asked_for(
    tmp_path: Path, ring: Keyring, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "EMBEDDED", tmp_path / "none")
    status, _, err = run(capsys, PROMPT, "-o", tmp_path / "out.mp4")
    assert (status, "Expected --model" in err) == (2, True)


def test_a_revision_needs_a_model(
    tmp_path: Path, ring: Keyring, unloadable: None, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, PROMPT, "-o", tmp_path / "out.mp4", "--revision", "main")
    assert (status, "error[bad-input]: Expected --model with --revision" in err) == (2, True)


SCHEDULER, DENOISER = "scheduler/scheduler_config.json", "transformer/config.json"


def _settings(folder: Path, file: str, **changed: Any) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: shutil.rmtree(folder / "scheduler"), "Expected every component"),
        (lambda folder: shutil.rmtree(folder / "tokenizer"), "Expected every component"),
        (lambda folder: (folder / "vae" / "config.json").write_text("{"), "Expected every component"),
        (lambda folder: _settings(folder, "model_index.json", scheduler=["diffusers", "OfTomorrowScheduler"]),
         "Expected every component"),
        (lambda folder: _settings(folder, "model_index.json", scheduler=["diffusers", "DDPMScheduler"]),
         "parts that LTXPipeline can make a clip of"),
        (lambda folder: _settings(folder, SCHEDULER, shift="fast"), "Expected"),
        (lambda folder: _settings(folder, SCHEDULER, use_dynamic_shifting=True, base_shift=None),
         "that go together in LTXPipeline"),
        (lambda folder: _settings(folder, DENOISER, num_layers=2), "Expected all weights of transformer"),
        (lambda folder: _settings(folder, DENOISER, attention_head_dim=16), "Expected every component"),
        (lambda folder: _settings(folder, "model_index.json", vae=["diffusers", "AutoencoderKL"]), "Expected"),
    ],
    ids=["no scheduler", "no tokenizer", "torn settings", "unknown scheduler", "unfit scheduler", "scheduler of words",
         "scheduler with a hole", "missing weights", "other shapes", "other autoencoder"],
)
def test_a_damaged_model_is_one_sentence(
    tmp_path: Path, model: Path, ring: Keyring, damage: Any, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    damage(folder)
    status, record, err = run(capsys, PROMPT, "-o", tmp_path / "out.mp4", "--model", folder, *SMALL, "--json")
    assert (status, record["error"]["code"]) == (2, "bad-input"), err
    assert words in record["error"]["message"]
    assert len(record["error"]["message"]) < 500
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_the_embedded_pipeline_is_the_default(
    tmp_path: Path, model: Path, ring: Keyring, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "EMBEDDED", model)
    status, record, _ = run(capsys, PROMPT, "-o", tmp_path / "out.mp4", *SMALL, "--json")
    assert (status, record["model"]) == (0, "embedded")


def test_the_embedded_pipeline_draws_its_own_size_and_rate_and_is_scaled_to_what_was_asked_for(
    tmp_path: Path, model: Path, ring: Keyring, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "EMBEDDED", model)
    monkeypatch.setattr(generate, "EMBEDDED_SETTINGS", {**generate.EMBEDDED_SETTINGS, "width": 256, "height": 256})
    out = tmp_path / "out.mp4"
    status, record, _ = run(capsys, PROMPT, "-o", out, *SMALL[4:], "--size", "480x300",
                            "--json")
    assert (status, record["width"], record["height"], record.get("scaled_from")) == (0, 480, 300, [256, 256]), record
    info = probe(out)
    assert (info.width, info.height) == (480, 300)
    assert generate.as_embedded(Request(width=64, height=64, fps=8)) == Request(
        width=256, height=256, shown=(64, 64), fps=25, played=8, frames=25, steps=16, steady=True, seed=ANY)
    status, record, _ = run(capsys, PROMPT, "-o", tmp_path / "odd.mp4", "--size", "481x300", "--json")
    assert (status, record["error"]["code"]) == (2, "bad-size")


def test_frames_are_steadied_before_they_are_marked(
    tmp_path: Path, model: Path, ring: Keyring, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoken(name: str, *options: str) -> tuple[dict[str, Any], list[np.ndarray]]:
        out = tmp_path / name
        status, record, err = run(capsys, PROMPT, "-o", out, *SMALL, "--seed", 1, "--report", "--json", *options)
        assert status == 0, err
        return record, [frame for _, frame in read_rgb(out)]

    plain, frames = spoken("plain.mkv", "--model", str(model))
    steady, others = spoken("steady.mkv", "--model", str(model), "--steady")
    assert (plain["steadied"], steady["steadied"]) == (False, True)
    assert len(frames) == len(others)
    changes = [np.abs(np.diff(np.stack(clip).astype(float), axis=0)).mean() for clip in (frames, others)]
    assert changes[1] < changes[0]
    monkeypatch.setattr(generate, "EMBEDDED", model)
    monkeypatch.setattr(generate, "EMBEDDED_SETTINGS", {**generate.EMBEDDED_SETTINGS, "width": 256, "height": 256})
    assert spoken("embedded.mkv")[0]["steadied"] is True
    assert spoken("not.mkv", "--no-steady")[0]["steadied"] is False


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--crf", 51), "not-verified", "Expected payload"),
        (("--width", 250), "bad-size", "use --width 224 or 256"),
        (("--size", "256x256"), "bad-input", "got both"),
        (("--size", "256"), "usage", "such as 512x320"),
        (("--frames", 10), "bad-size", "use --frames 9 or 13"),
        (("--model", "no/such", "--local-only"), "fetch-failed", "local folder"),
    ],
)
def test_a_failure_leaves_nothing(
    tmp_path: Path, model: Path, ring: Keyring, capsys: pytest.CaptureFixture[str], options: tuple[Any, ...],
    code: str, words: str,
) -> None:
    out = tmp_path / "out.mp4"
    status, _, err = run(capsys, PROMPT, "-o", out, "--model", model, *SMALL, "--strength", "invisible", *options)
    assert status == 2
    assert f"error[{code}]" in err
    assert words in err
    assert ".part" not in err
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []


def test_the_bar_is_for_terminals(
    tmp_path: Path, model: Path, ring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    assert cli.run([str(part) for part in
                    ("generate", PROMPT, "-o", tmp_path / "out.mp4", "--model", model, *SMALL)]) == 0
    assert "100%" in screen.getvalue()
