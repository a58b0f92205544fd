"""Optional packages: imported where they are needed, with one sentence when they are not installed."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from genwm.errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Import and return ``module``, which the optional dependencies ``extra`` of this distribution bring.

    Raises `MissingExtraError` with the command that installs it when the module, or one that it needs in turn, is not
    installed. Any other failure of the import is passed on: it is a fault, not a missing package.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        needed = "" if missing == module else f" (which {module} needs)"
        raise MissingExtraError(
            f'Expected the optional package {missing}{needed}, got none installed; run: pip install "genwm[{extra}]"'
        ) from error
