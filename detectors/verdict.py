"""Readings -> one verdict, under a policy that names its false-positive targets.

Evidence is kept apart and weighed in a fixed order: a valid manifest, the mark with its p-value, the classifier's
score. Nothing is multiplied together: the strongest piece names the verdict, the others stay in the record. Where
nothing was found the verdict is 'no_evidence', never that a video is camera footage. Evidence that speaks against
itself is a contradiction, and reported as one.
"""

from __future__ import annotations

import json
import math
import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from detectors.record import ProvenanceRecord, SyntheticRecord, Verdict, WatermarkRecord
from genwm.errors import PolicyError
from genwm.text import chance

Rate = Annotated[float, Field(gt=0, lt=1)]
#: What the detectors themselves ask for before they say something; a policy can only ask for more.
LOOSEST_MARK_RATE, LOOSEST_MARK_HINT = 1e-6, 1e-3
LOOSEST_SCORE_RATE, LOOSEST_SCORE_HINT = 0.01, 0.05
#: Decimals of the classifier's rate in a record, which is what a policy is compared with.
RATE_DIGITS = 5


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Rates(_Section):
    false_positive_rate: Rate
    hint_rate: Rate

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.hint_rate < self.false_positive_rate:
            raise ValueError("hint_rate must not be below false_positive_rate")
        return self


class WatermarkPolicy(_Rates):
    """p-values, corrected for everything that was searched in a file, at which a mark counts."""

    false_positive_rate: Annotated[float, Field(gt=0, le=LOOSEST_MARK_RATE)] = 1e-6
    hint_rate: Annotated[float, Field(gt=0, le=LOOSEST_MARK_HINT)] = 1e-3


class SyntheticPolicy(_Rates):
    """Shares of camera footage that may score as high as a file that is called likely synthetic, or a hint."""

    false_positive_rate: Annotated[float, Field(gt=0, le=LOOSEST_SCORE_RATE)] = 0.01
    hint_rate: Annotated[float, Field(gt=0, le=LOOSEST_SCORE_HINT)] = 0.05


class ProvenancePolicy(_Section):
    """What a manifest by an unknown signer is worth."""

    untrusted_manifest: Literal["ignore", "hint"] = "hint"


class ContradictionPolicy(_Section):
    """What becomes of a verdict whose evidence speaks against itself."""

    verdict: Literal["inconclusive", "keep"] = "inconclusive"


class Policy(_Section):
    """Thresholds of a verdict; the shipped one is ``detectors/policies/default.toml``."""

    schema_: Literal["genwm.policy/1"] = Field(default="genwm.policy/1", alias="schema")
    name: Annotated[str, Field(min_length=1, max_length=64)] = "default"
    watermark: WatermarkPolicy = WatermarkPolicy()
    synthetic: SyntheticPolicy = SyntheticPolicy()
    provenance: ProvenancePolicy = ProvenancePolicy()
    contradictions: ContradictionPolicy = ContradictionPolicy()


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, its reasons in order of weight, and what speaks against it, in plain sentences."""

    verdict: Verdict
    reasons: tuple[str, ...]
    contradictions: tuple[str, ...] = ()


def load_policy(path: str | os.PathLike[str] | None = None) -> Policy:
    """Reads a policy file (TOML); without a path the shipped default.

    Raises PolicyError, which names the key, where the file cannot be read or says what a policy cannot say, and where
    it changes the shipped policy under that one's name: records tell policies apart by their names.
    """
    name = "the default policy" if path is None else os.fspath(path)
    try:
        text = default_policy_text() if path is None else Path(path).read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise PolicyError(f"Expected a policy file at {name}, got '{error.strerror}'; check the path") from None
    except ValueError as error:  # bad UTF-8 or bad TOML
        raise PolicyError(f"Expected TOML in {name}, got something else ({error}); start from a copy of the default, "
                          "which 'genwm scan --print-policy' prints") from None
    if "schema" not in document:
        raise PolicyError(f'Expected schema = "genwm.policy/1" in {name}, got none; add that line')
    try:
        policy = Policy.model_validate(document)
    except ValidationError as error:
        raise PolicyError(f"Expected a policy in {name}, got {_complaint(error)}; "
                          "'genwm scan --print-policy' prints one that holds") from None
    if policy.name == Policy().name and policy != Policy():
        raise PolicyError(f"Expected a name of its own for the policy in {name}, which differs from the shipped one, "
                          f"got '{policy.name}'; change its line 'name = ', or add one below 'schema = '")
    return policy


def policy_text(policy: Policy) -> str:
    """A policy as the TOML text that `load_policy` reads."""
    document = policy.model_dump(by_alias=True)
    sections = {name: value for name, value in document.items() if isinstance(value, dict)}
    top = {name: value for name, value in document.items() if name not in sections}
    return "\n".join([*_lines(top), *(f"\n[{name}]\n" + "\n".join(_lines(values)) for name, values in sections.items())
                      ]) + "\n"


def _lines(values: dict[str, str | float]) -> list[str]:
    # JSON's strings and numbers are TOML's, but for DEL, which TOML wants escaped.
    return [f"{name} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f")
            for name, value in values.items()]


def default_policy_text() -> str:
    """The shipped policy file, comments included."""
    return (resources.files("detectors") / "policies" / "default.toml").read_text(encoding="utf-8")


def _complaint(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"]) or "the file"
    if first["type"] == "extra_forbidden":
        return f"the unknown key '{key}'"
    if first["type"] == "missing":
        return f"no key '{key}'"
    return f"{first['input']!r} for '{key}' ({first['msg'].removeprefix('Value error, ')})"


def judge(
    watermark: WatermarkRecord | None,
    synthetic: SyntheticRecord | None,
    provenance: ProvenanceRecord,
    policy: Policy,
    *,
    keys: int,
) -> Judgement:
    """Weighs what the detectors read; ``keys`` is how many keys the mark was looked for with."""
    found = [_of_manifest(provenance, policy), _of_mark(watermark, provenance, policy, keys),
             _of_score(synthetic, policy)]
    said = [part for part in found if part is not None]
    against = _contradictions(watermark, synthetic, provenance, policy)
    verdict: Verdict = next(
        (wanted for wanted in ("watermark_detected", "likely_synthetic", "inconclusive")
         if any(verdict == wanted for verdict, _ in said)),
        "no_evidence",
    )
    if against and policy.contradictions.verdict == "inconclusive" and verdict != "no_evidence":
        verdict = "inconclusive"
    reasons = [sentence for _, sentence in said]
    if verdict == "no_evidence":
        reasons.append("Nothing was found. That is no evidence that the video was not generated: it may come from a "
                       "generator that is not known here, or have lost its mark.")
    return Judgement(verdict, tuple(reasons), tuple(against))


def _of_manifest(provenance: ProvenanceRecord, policy: Policy) -> tuple[Verdict, str] | None:
    signer = f" by {provenance.signer}" if provenance.signer else ""
    made = " It declares that the content was generated." if provenance.declares_generated else ""
    match provenance.c2pa:
        case "valid":
            verdict: Verdict = "likely_synthetic" if provenance.declares_generated else "no_evidence"
            return verdict, f"The file carries a valid manifest signed{signer}.{made}"
        case "valid_untrusted":
            counts = provenance.declares_generated and policy.provenance.untrusted_manifest == "hint"
            return ("inconclusive" if counts else "no_evidence",
                    f"The file carries an intact manifest signed{signer}, who is not on the trust list: anyone can "
                    f"sign so.{made}")
        case "invalid":
            return "no_evidence", ("The file carries a manifest that does not hold: its content or the manifest was "
                                   "changed after signing.")
        case _:
            return None


def _of_mark(
    mark: WatermarkRecord | None, provenance: ProvenanceRecord, policy: Policy, keys: int
) -> tuple[Verdict, str] | None:
    if mark is None:
        return None
    p, target = chance(mark.log10_p), policy.watermark.false_positive_rate
    asked = chance(math.log10(target))
    if mark.status == "detected" and mark.log10_p <= math.log10(target):
        payload = "its payload is too weak to read" if mark.payload is None else f"payload {mark.payload}"
        sentence = (f"The mark of key {mark.key} is in the picture, {payload}; chance explains it with p = {p}, "
                    f"and the policy asks for {asked} or less.")
        payloads = {mark.payload, *(part.payload for part in mark.segments)} - {None}
        if len(payloads) > 1:
            sentence += f" It was put together from {len(payloads)} marked clips: their payloads differ."
        if provenance.registry == "match":
            sentence += " The registry has this payload for a clip that looks like this one."
        return "watermark_detected", sentence
    if mark.log10_p <= math.log10(policy.watermark.hint_rate):
        return "inconclusive", (f"There is a hint of a mark, which chance explains with p = {p}: too likely to "
                                f"call it detected (the policy asks for {asked} or less); try a longer or better copy.")
    tried = "the key" if keys == 1 else f"the {keys} keys"
    return "no_evidence", f"No mark of {tried} tried was found (p = {p})."


def _of_score(score: SyntheticRecord | None, policy: Policy) -> tuple[Verdict, str] | None:
    if score is None:
        return None
    why = " ".join(score.reasons)
    if score.false_positive_rate is None:
        return "no_evidence", f"The classifier {score.model} could not judge the file. {why}".rstrip()
    verdict = score_verdict(score, policy)
    asks = f" The policy asks for {_share(policy.synthetic.false_positive_rate)}." if verdict != "no_evidence" else ""
    head = {"likely_synthetic": "finds traces of a generator", "inconclusive": "sees a hint of a generator, no more",
            "no_evidence": "sees nothing that camera footage does not show often enough"}[verdict]
    return verdict, f"The classifier {score.model} {head} (probability {score.probability:.2f}). {why}".rstrip() + asks


def score_verdict(score: SyntheticRecord, policy: Policy) -> Verdict:
    """What the classifier's score alone amounts to. A policy can ask for more than the detector does, never for less:
    a score that flips under a mild re-encode stays inconclusive."""
    rate = score.false_positive_rate
    if rate is None or rate > policy.synthetic.hint_rate or score.status == "no_evidence":
        return "no_evidence"
    if rate <= policy.synthetic.false_positive_rate and score.status == "likely_synthetic":
        return "likely_synthetic"
    return "inconclusive"


def unreachable(policy: Policy, least_rate: float) -> str | None:
    """What to tell of a policy that asks for a lower rate than the classifier's calibration set can show, the
    ``least_rate`` of a clip that scores above all of it; None where some clip can reach the policy's."""
    asked, least = policy.synthetic.false_positive_rate, round(least_rate, RATE_DIGITS)
    if asked >= least:
        return None
    return (f"no clip can be called likely synthetic by its score: the policy '{policy.name}' asks for a "
            f"false_positive_rate of {asked:g} of [synthetic], and the least that the classifier's calibration set can "
            f"show is {least:g}")


def _share(rate: float) -> str:
    return f"{100 * rate:.2g} %"


def _contradictions(
    mark: WatermarkRecord | None, score: SyntheticRecord | None, provenance: ProvenanceRecord, policy: Policy
) -> Sequence[str]:
    against = []
    detected = mark is not None and mark.status == "detected"
    if provenance.registry == "transplant":
        against.append("The mark's payload is registered for another clip, and this picture does not match it: the "
                       "mark was probably copied from that clip onto this one.")
    named = provenance.names_payload
    if mark is not None and provenance.c2pa in ("valid", "valid_untrusted") and named and mark.payload != named:
        against.append(f"The manifest says that the picture carries the mark with payload {named}, and it carries "
                       f"{'none that could be read' if mark.payload is None else f'payload {mark.payload}'}.")
    generated = detected or (score is not None and score_verdict(score, policy) == "likely_synthetic")
    if provenance.c2pa == "valid" and provenance.declares_generated is False and generated:
        against.append("A valid manifest declares a source other than a generator, while the picture shows "
                       f"{'a mark' if detected else 'traces of a generator'}.")
    return against
