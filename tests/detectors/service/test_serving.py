"""What the server says when it starts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the service is not tested: it needs the extra 'serve'")

from detectors.service import serving
from detectors.service.config import Config
from detectors.verdict import Policy, SyntheticPolicy
from tests.detectors.service.stub import StubScanner, settings


def end_at_once(server: serving._Server, sockets: object) -> None:
    async def start_and_end() -> None:
        async with server._app.router.lifespan_context(server._app):
            pass

    asyncio.run(start_and_end())


def test_evidence_that_the_settings_rule_out_is_said_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(serving._Server, "run", end_at_once)
    strict = Policy(name="mine", synthetic=SyntheticPolicy(false_positive_rate=0.001, hint_rate=0.01))
    asked = replace(settings(), keys=(), policy=strict, detectors=("watermark", "synthetic"))
    serving.run(Config(folder=tmp_path / "data"), asked, "127.0.0.1", 0, StubScanner)
    said = capsys.readouterr().err
    assert "Warning: the keyring is empty, so no mark is looked for.\n" in said
    assert "Warning: no clip can be called likely synthetic by its score: the policy 'mine' asks for" in said


def test_usual_settings_bring_no_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serving._Server, "run", end_at_once)
    serving.run(Config(folder=tmp_path / "data"), settings(), "127.0.0.1", 0, StubScanner)
    said = capsys.readouterr().err
    assert "Serving on http://127.0.0.1:" in said
    assert "There is no token yet" in said
    assert "Warning" not in said
