"""What a scan looks for and what a file may cost: one frozen object, whose digest goes into every record."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from detectors.verdict import Policy, load_policy, unreachable
from detectors.watermark import FRAME_BUDGET
from genwm import __version__
from genwm.errors import InputError, KeyMissingError, NotFoundError
from genwm.keys import VERSION, Key, Keyring
from genwm.video import MAX_PIXELS

Detector = Literal["watermark", "synthetic", "provenance"]
DETECTORS: tuple[Detector, ...] = get_args(Detector)

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one file may cost. A file that wants more yields an error record with the code in brackets.

    Attributes:
        time_s: wall-clock seconds [time-limit].
        memory_bytes: address space that reading it may add to a worker that is ready to read [memory-limit].
        pixels: pixels of a frame, as stored [too-large].
        frames: frames that the search for the mark uses at most; more are not an error.
        output_bytes: size of the record with its evidence pictures [output-limit].
    """

    time_s: float = 120.0
    memory_bytes: int = 1536 * MIB
    pixels: int = MAX_PIXELS
    frames: int = FRAME_BUDGET
    output_bytes: int = 8 * MIB

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise ValueError(f"Expected a limit {name} above 0, got {value!r}; raise it.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to look for, what counts, and what a file may cost. Picklable; holds secrets, so never write it to a file.

    Attributes:
        keys: keys whose mark is looked for; without any the watermark detector stays off.
        policy: what a verdict needs.
        limits: what one file may cost.
        detectors: which detectors to ask; those that are not installed are left out.
        model: folder of a classifier, such as ``genwm adapt`` writes; default the shipped one.
        trust: PEM file of the authorities whose manifests count as trusted, besides those built into c2pa-python.
        registry: registry file that read payloads are compared with; without one, the user's if there is one.
        timeline: also find which seconds are marked; reads a marked file once more, as a whole.
        everywhere: where the sampled frames of a file show no mark, search it stretch by stretch, about a second for
            each 5 s, 60 of them at most.
        pictures: evidence pictures to take of each file, for review pages; changes no verdict.
    """

    keys: tuple[Key, ...] = ()
    policy: Policy = field(default_factory=Policy)
    limits: Limits = field(default_factory=Limits)
    detectors: tuple[Detector, ...] = DETECTORS
    model: str | None = None
    trust: str | None = None
    registry: str | None = None
    timeline: bool = False
    everywhere: bool = False
    pictures: int = 0

    @classmethod
    def load(
        cls,
        *,
        keyring: str | os.PathLike[str] | None = None,
        key_names: Iterable[str] = (),
        policy: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Settings:
        """Settings from files: keys of a keyring (default: the user's; all of them, retired ones too, unless named) and
        a policy (default: the shipped one). ``options`` are further fields.

        Errors: KeyringError, KeyMissingError, PolicyError.
        """
        ring = Keyring.load(keyring)
        names = tuple(dict.fromkeys(key_names))
        keys = tuple(ring.get(name) for name in names) if names else ring.keys()
        return cls(keys=keys, policy=load_policy(policy), **options)

    def describe(self) -> dict[str, Any]:
        """What a record depends on, as JSON: keys by name and public id, never their secrets. Of the registry its place
        counts: it grows with each clip that is made, and a record stays as it was found."""
        registry = self.registry_path()
        return {
            "keys": [{"name": key.name, "id": key.id} for key in self.keys],
            "policy": self.policy.model_dump(by_alias=True),
            "limits": asdict(self.limits),
            "detectors": sorted(self.detectors),
            "trust": None if self.trust is None else hashlib.sha256(Path(self.trust).read_bytes()).hexdigest(),
            "registry": None if registry is None else str(registry.resolve()),
            "timeline": self.timeline,
            **({"everywhere": True} if self.everywhere else {}),  # records of scans without it stay as they were
            "versions": versions(self),
        }

    @property
    def digest(self) -> str:
        """SHA-256 of :meth:`describe`, first 16 hex digits: the same on every machine with the same versions."""
        text = json.dumps(self.describe(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def asks(self, detector: Detector) -> bool:
        """Whether this detector looks at files: it is asked for, it is installed, and has what it needs."""
        if detector not in self.detectors:
            return False
        if detector == "watermark":
            return bool(self.keys)
        return detector in available() or (detector == "synthetic" and self.model is not None)

    def classifier(self) -> str | None:
        """Digest of the classifier that is asked, None without one."""
        if not self.asks("synthetic"):
            return None
        from detectors.synthetic.model import MANIFEST, shipped_folder

        folder = Path(self.model) if self.model is not None else shipped_folder()
        return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()[:16]  # which names the weights by theirs

    def registry_path(self) -> Path | None:
        """The registry file to ask, None where there is none."""
        from genwm.registry import Registry

        path = Path(self.registry) if self.registry is not None else Registry.default_path()
        return path if self.registry is not None or path.exists() else None

    def warnings(self) -> tuple[str, ...]:
        """What whoever scans should know beforehand: evidence that these settings rule out. Errors: those of
        `check`."""
        empty = "watermark" in self.detectors and not self.keys
        return (("the keyring is empty, so no mark is looked for",) if empty else ()) + self._of_the_policy()

    def _of_the_policy(self) -> tuple[str, ...]:
        if not self.asks("synthetic") or (self.model is None and self.policy.synthetic == Policy().synthetic):
            return ()
        from detectors.synthetic import load_model

        words = unreachable(self.policy, load_model(self.model).calibration.least_rate)
        return () if words is None else (words,)

    def check(self) -> None:
        """Raises KeyMissingError where no detector would look at a file, NotFoundError for a missing trust list or
        model, InputError for a registry or model that cannot be read."""
        if self.trust is not None and not os.path.isfile(self.trust):
            raise NotFoundError(f"Expected a PEM file of trusted certificates at {self.trust}, got none; check the "
                                "path.")
        if self.trust is not None and b"-----BEGIN CERTIFICATE-----" not in Path(self.trust).read_bytes():
            raise InputError(f"Expected certificates in PEM form in {self.trust}, got none; check the file")
        if (registry := self.registry_path()) is not None:
            from genwm.registry import Registry

            len(Registry(registry))
        if self.model is not None and "synthetic" in self.detectors:
            from detectors.synthetic import load_model

            load_model(self.model)
        if not any(self.asks(detector) for detector in DETECTORS):
            raise KeyMissingError("Expected a key whose mark is looked for, or another detector, got neither; make a "
                                  "key with genwm keys new NAME.")


@cache
def available() -> frozenset[Detector]:
    """The detectors that are installed here: a mark can always be read, the others need packages or weights."""
    found: set[Detector] = {"watermark"}
    if find_spec("c2pa") is not None:
        found.add("provenance")
    if find_spec("onnxruntime") is not None and find_spec("detectors.synthetic") is not None:
        from detectors.synthetic.model import MANIFEST, shipped_folder

        if (shipped_folder() / MANIFEST).is_file():
            found.add("synthetic")
    return frozenset(found)


def versions(settings: Settings) -> dict[str, str]:
    """Versions of what reads a file, by name: what a record depends on besides its settings."""
    found = {"genwm": __version__}
    if settings.asks("watermark"):
        found["watermark"] = VERSION.decode()
    if settings.asks("synthetic"):
        found |= {"onnxruntime": _version_of("onnxruntime"), "classifier": settings.classifier() or ""}
    if settings.asks("provenance"):
        found["c2pa"] = _version_of("c2pa-python")
    return found


_version_of = cache(metadata.version)
