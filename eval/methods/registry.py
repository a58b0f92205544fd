"""Watermarks under test by id, ``name.tag.tag`` with the usual tags left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from eval.baselines import BASELINES
from eval.methods.lattice import Lattice
from eval.methods.model import Watermark
from eval.methods.perframe import PerFrame
from genwm.errors import InputError

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
    """The watermarks of those ids in that order, each once; unknown ids raise InputError."""
    names = list(dict.fromkeys(ids))
    if unknown := [name for name in names if name not in METHODS]:
        raise InputError(f"Expected methods of {', '.join(METHODS)}, got {', '.join(unknown)}; choose from the list")
    return [METHODS[name] for name in names]


def method_id(name: str, strength: str, profile: str) -> str:
    """The id of what a row of results was measured on; of something that is not registered, all its tags."""
    for identity, method in METHODS.items():
        if (method.name, method.strength, method.profile) == (name, strength, profile):
            return identity
    return ".".join(part for part in (name, strength, profile) if part)
