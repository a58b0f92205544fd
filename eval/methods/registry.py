"""Watermarks under test by id, ``name.tag.tag`` with the usual tags left out; others' by ``module:object``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from eval.baselines import BASELINES
from eval.methods.foreign import Foreign, loaded
from eval.methods.lattice import Lattice
from eval.methods.model import Watermark
from eval.methods.perframe import PerFrame
from genwm.errors import GenwmError, InputError

# Slow networks and loops are read less often: their time, not their strength, is what bounds a run.
_READS = {"rivaGan": 4, "blind": 4}

METHODS: Mapping[str, Watermark] = {
    **{f"lattice.{strength}": Lattice(strength=strength) for strength in ("invisible", "balanced", "strong")},
    "lattice.luma": Lattice(profile="luma"),
    **{name: PerFrame(name=name, reads=_READS.get(name, 8)) for name in BASELINES},
    **{f"{name}.majority": PerFrame(name=name, profile="majority", reads=_READS.get(name, 8)) for name in BASELINES},
}
DEFAULT_METHODS = ("lattice.balanced",)
#: Three that take minutes together.
QUICK_METHODS = ("lattice.balanced", "dwtDctSvd", "dwtDct")


def methods_named(ids: Iterable[str]) -> list[Watermark]:
    """The watermarks of those ids in that order, each once. Errors: those of method_named."""
    return [method_named(name) for name in dict.fromkeys(ids)]


def method_named(name: str) -> Watermark:
    """The watermark of an id, or the one at ``module:object``. Errors: InputError (unknown, or no watermark)."""
    if is_foreign(name):
        loaded(name)  # now rather than on every clip
        return Foreign(name)
    if name not in METHODS:
        raise InputError(
            f"Expected methods of {', '.join(METHODS)}, or module:object, got {name}; choose from the list"
        )
    return METHODS[name]


def known_method(name: str) -> Watermark | None:
    """The watermark of an id in rows, None where there is none here."""
    try:
        return method_named(name)
    except GenwmError:
        return None


def is_foreign(name: str) -> bool:
    """Whether a method's id is ``module:object``."""
    return ":" in name


def method_id(name: str, strength: str, profile: str) -> str:
    """The id of what a row of results was measured on; of something that is not registered, all its tags."""
    if is_foreign(name):
        return name
    for identity, method in METHODS.items():
        if (method.name, method.strength, method.profile) == (name, strength, profile):
            return identity
    return ".".join(part for part in (name, strength, profile) if part)
