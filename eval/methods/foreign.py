"""Somebody else's watermark, named by where it is: ``module:object``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from io import BytesIO
from typing import cast

from eval.methods.model import Outcome, Watermark, bits_in, is_keyed
from genwm.errors import GenwmError, InputError
from genwm.keys import Key
from genwm.video import Planes

_PARTS = ("strength", "profile", "mark", "read")


@dataclass(frozen=True)
class Foreign:
    """The watermark that a module has under a name, or that a class of it makes without arguments.

    Its own name is where it is, so that whoever has its rows can find it; other processes get nothing but that name.
    """

    name: str

    @property
    def strength(self) -> str:
        return loaded(self.name).strength

    @property
    def profile(self) -> str:
        return loaded(self.name).profile

    @property
    def bits(self) -> int:
        return bits_in(loaded(self.name))

    @property
    def keyed(self) -> bool:
        return is_keyed(loaded(self.name))

    def mark(self, frames: Iterable[Planes], key: Key, payload: int) -> Iterator[Planes]:
        # Copies: what marks in place must not change the frames that it is compared with.
        copies = (replace(one, y=one.y.copy(), u=one.u.copy(), v=one.v.copy()) for one in frames)
        return loaded(self.name).mark(copies, key, payload)

    def read(self, file: BytesIO, keys: Sequence[Key]) -> Outcome:
        return loaded(self.name).read(file, keys)


@cache
def loaded(name: str) -> Watermark:
    """The watermark at ``module:object``. Errors: InputError (no such module or object, or it is no watermark)."""
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute)
        found = found() if isinstance(found, type) else found
    except GenwmError:
        raise
    except Exception as error:  # whatever a module does when it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"Expected a watermark at {name}, got '{reason}'; check its name and PYTHONPATH") from None
    if missing := [part for part in _PARTS if not hasattr(found, part)]:
        raise InputError(
            f"Expected a watermark at {name}, got a {type(found).__name__} without {', '.join(missing)}; "
            "see Watermark in eval/methods/model.py"
        )
    return cast(Watermark, found)
