"""Verdicts: what counts under which policy, in what order, and in what words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detectors.record import GeometryRecord, ProvenanceRecord, SegmentRecord, SyntheticRecord, WatermarkRecord
from detectors.verdict import (
    Judgement,
    Policy,
    SyntheticPolicy,
    default_policy_text,
    judge,
    load_policy,
    policy_text,
    unreachable,
)
from genwm.errors import PolicyError

GEOMETRY = GeometryRecord(scale=1, rotation=0, flip=False, aspect=1)
NOTHING = ProvenanceRecord()


def mark(log10_p: float = -30.0, *, payload: str | None = "0123456789abcdef", **fields: Any) -> WatermarkRecord:
    """What the reader says at that p-value."""
    status: Any = "detected" if log10_p <= -6 else "inconclusive" if log10_p <= -3 else "not_detected"
    found = status == "detected"
    return WatermarkRecord(status=status, key="studio" if found else None, payload=payload if found else None,
                           log10_p=log10_p, geometry=GEOMETRY if found else None, **fields)


def score(rate: float | None, status: Any = None, **fields: Any) -> SyntheticRecord:
    """What the classifier says where this share of camera footage scores as high."""
    if status is None:
        assert rate is not None
        status = "likely_synthetic" if rate <= 0.01 else "inconclusive" if rate <= 0.05 else "no_evidence"
    return SyntheticRecord(status=status, probability=0.9, model="small-1", false_positive_rate=rate, **fields)


def verdict_of(
    watermark: WatermarkRecord | None = None,
    synthetic: SyntheticRecord | None = None,
    provenance: ProvenanceRecord = NOTHING,
    policy: Policy | None = None,
) -> Judgement:
    return judge(watermark, synthetic, provenance, policy or Policy(), keys=2)


def policy(text: str, tmp_path: Path) -> Policy:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    return load_policy(path)


# --- each piece of evidence


@pytest.mark.parametrize(
    ("log10_p", "verdict"),
    [(-30, "watermark_detected"), (-6, "watermark_detected"), (-5.9, "inconclusive"), (-3, "inconclusive"),
     (-2.9, "no_evidence"), (0, "no_evidence")],
)  # fmt: skip
def test_the_mark_alone(log10_p: float, verdict: str) -> None:
    found = verdict_of(mark(log10_p))
    assert found.verdict == verdict
    assert f"p = {f'10^{log10_p:g}' if log10_p else '1'}" in found.reasons[0]
    assert ("policy asks for 10^-6 or less" in found.reasons[0]) == (verdict != "no_evidence")


@pytest.mark.parametrize(
    ("rate", "verdict"),
    [(0.001, "likely_synthetic"), (0.01, "likely_synthetic"), (0.011, "inconclusive"), (0.05, "inconclusive"),
     (0.06, "no_evidence")],
)  # fmt: skip
def test_the_score_alone(rate: float, verdict: str) -> None:
    assert verdict_of(synthetic=score(rate)).verdict == verdict


def test_a_score_that_flips_under_reencoding_stays_inconclusive() -> None:
    assert verdict_of(synthetic=score(0.001, status="inconclusive")).verdict == "inconclusive"


def test_what_cannot_be_judged_says_nothing() -> None:
    found = verdict_of(synthetic=score(None, status="inconclusive", reasons=("It is a still image.",)))
    assert found.verdict == "no_evidence"
    assert "could not judge the file. It is a still image." in found.reasons[0]


@pytest.mark.parametrize(
    ("c2pa", "generated", "verdict"),
    [("valid", True, "likely_synthetic"), ("valid", False, "no_evidence"), ("valid", None, "no_evidence"),
     ("valid_untrusted", True, "inconclusive"), ("valid_untrusted", False, "no_evidence"),
     ("invalid", True, "no_evidence"), ("absent", None, "no_evidence")],
)  # fmt: skip
def test_the_manifest_alone(c2pa: Any, generated: bool | None, verdict: str) -> None:
    manifest = ProvenanceRecord(c2pa=c2pa, declares_generated=generated, signer="Studio Ltd")
    found = verdict_of(mark(0), provenance=manifest)
    assert found.verdict == verdict
    assert ("manifest" in found.reasons[0]) == (c2pa != "absent")


def test_an_untrusted_manifest_can_be_ignored(tmp_path: Path) -> None:
    strict = policy('schema = "genwm.policy/1"\nname = "strict"\n[provenance]\nuntrusted_manifest = "ignore"', tmp_path)
    manifest = ProvenanceRecord(c2pa="valid_untrusted", declares_generated=True)
    assert verdict_of(provenance=manifest, policy=strict).verdict == "no_evidence"


# --- together


def test_the_strongest_evidence_names_the_verdict_and_all_of_it_is_told_in_order() -> None:
    manifest = ProvenanceRecord(c2pa="valid", declares_generated=True, signer="Studio Ltd")
    found = verdict_of(mark(), score(0.001), manifest)
    assert found.verdict == "watermark_detected"
    assert [word in reason for word, reason in zip(("manifest", "mark", "classifier"), found.reasons, strict=True)] == [
        True, True, True]  # fmt: skip
    assert not found.contradictions


def test_nothing_found_says_nothing_about_camera_footage() -> None:
    for found in (verdict_of(mark(0), score(0.5, "no_evidence")), verdict_of()):
        assert found.verdict == "no_evidence"
        assert "no evidence that the video was not generated" in found.reasons[-1]
        words = " ".join(found.reasons).lower()
        assert not any(claim in words for claim in ("is real", "authentic", "genuine", "human"))


def test_a_transplanted_mark_is_a_contradiction(tmp_path: Path) -> None:
    moved = ProvenanceRecord(registry="transplant")
    found = verdict_of(mark(), provenance=moved)
    assert found.verdict == "inconclusive"
    assert "another clip" in found.contradictions[0]
    keeping = policy('schema = "genwm.policy/1"\nname = "keep"\n[contradictions]\nverdict = "keep"', tmp_path)
    kept = verdict_of(mark(), provenance=moved, policy=keeping)
    assert (kept.verdict, kept.contradictions) == ("watermark_detected", found.contradictions)


def test_a_mark_on_its_own_clip_says_so() -> None:
    (said,) = verdict_of(mark(), provenance=ProvenanceRecord(registry="match")).reasons
    assert said.endswith("The registry has this payload for a clip that looks like this one.")
    assert "the policy asks for 10^-6 or less." in said


@pytest.mark.parametrize("evidence", [{"watermark": mark()}, {"synthetic": score(0.001)}])
def test_a_camera_manifest_against_a_generated_picture(evidence: dict[str, Any]) -> None:
    camera = ProvenanceRecord(c2pa="valid", declares_generated=False)
    found = verdict_of(**evidence, provenance=camera)
    assert found.verdict == "inconclusive"
    assert len(found.contradictions) == 1
    assert not verdict_of(mark(0), provenance=camera).contradictions


def test_several_payloads_are_told() -> None:
    parts = tuple(SegmentRecord(start=at, end=at + 1, key="studio", payload=payload, log10_p=-9)
                  for at, payload in ((0, "0123456789abcdef"), (1, "ffffffffffffffff")))
    found = verdict_of(mark(segments=parts))
    assert found.verdict == "watermark_detected"
    assert "2 marked clips" in found.reasons[0]


def test_a_stricter_policy(tmp_path: Path) -> None:
    strict = policy('schema = "genwm.policy/1"\nname = "courts"\n[watermark]\nfalse_positive_rate = 1e-12\n'
                    "[synthetic]\nfalse_positive_rate = 0.0001\nhint_rate = 0.001", tmp_path)
    assert verdict_of(mark(-11.9), policy=strict).verdict == "inconclusive"
    assert verdict_of(mark(-12.1), policy=strict).verdict == "watermark_detected"
    assert verdict_of(synthetic=score(0.001), policy=strict).verdict == "inconclusive"
    assert verdict_of(synthetic=score(0.002), policy=strict).verdict == "no_evidence"


# --- policy files


def test_the_shipped_policy_is_the_default_and_says_so(tmp_path: Path) -> None:
    assert load_policy() == Policy()
    assert policy(default_policy_text(), tmp_path) == Policy()


def test_a_changed_policy_needs_a_name_of_its_own(tmp_path: Path) -> None:
    changed = default_policy_text().replace("hint_rate = 0.05", "hint_rate = 0.02")
    for text in (changed, changed.replace('name = "default"\n', "")):
        with pytest.raises(PolicyError, match=r"^Expected a name of its own .*policy\.toml"):
            policy(text, tmp_path)
    named = policy(changed.replace('"default"', '"strict"'), tmp_path)
    assert (named.name, named.synthetic.hint_rate) == ("strict", 0.02)


def test_a_rate_that_the_calibration_cannot_show_is_told() -> None:
    strict = Policy(name="strict", synthetic=SyntheticPolicy(false_positive_rate=0.006))
    words = unreachable(strict, 1 / 151)
    assert words is not None
    assert "'strict'" in words
    assert "0.006 " in words
    assert words.endswith("is 0.00662")
    for rate in (0.00662, 0.01):  # records round the rate of a clip
        assert unreachable(Policy(name="mine", synthetic=SyntheticPolicy(false_positive_rate=rate)), 1 / 151) is None


@pytest.mark.parametrize("name", ["default", 'odd "\\\t\x7f\u2028 ä \U0001f600'])
def test_a_policy_as_text_is_the_same_policy(name: str, tmp_path: Path) -> None:
    wanted = Policy() if name == "default" else Policy(name=name, synthetic=SyntheticPolicy(false_positive_rate=3e-5))
    assert policy(policy_text(wanted), tmp_path) == wanted


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "schema"),
        ("not toml", "TOML"),
        ('schema = "genwm.policy/2"', "schema"),
        ('schema = "genwm.policy/1"\nthreshold = 1', "unknown key 'threshold'"),
        ('schema = "genwm.policy/1"\n[watermark]\nrate = 1e-6', "unknown key 'watermark.rate'"),
        ('schema = "genwm.policy/1"\n[watermark]\nfalse_positive_rate = 1e-5', "'watermark.false_positive_rate'"),
        ('schema = "genwm.policy/1"\n[watermark]\nfalse_positive_rate = 0', "'watermark.false_positive_rate'"),
        ('schema = "genwm.policy/1"\n[watermark]\nhint_rate = 1e-9', "below"),
        ('schema = "genwm.policy/1"\n[synthetic]\nfalse_positive_rate = 0.02', "'synthetic.false_positive_rate'"),
        ('schema = "genwm.policy/1"\n[synthetic]\nhint_rate = 0.001', "below"),
        ('schema = "genwm.policy/1"\n[synthetic]\nfalse_positive_rate = "low"', "'synthetic.false_positive_rate'"),
        ('schema = "genwm.policy/1"\n[contradictions]\nverdict = "real"', "'contradictions.verdict'"),
        ('schema = "genwm.policy/1"\nname = ""', "'name'"),
    ],
)
def test_policies_that_cannot_be(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"^Expected") as caught:
        policy(text, tmp_path)
    assert says in str(caught.value)
    assert "policy.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_policy_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="check the path"):
        load_policy(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(PolicyError, match="TOML"):
        load_policy(tmp_path / "bytes.toml")
