"""Optional packages: imported where they are needed, with one sentence when they are not installed."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from genwm.errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Import and return ``module``, which the optional dependencies ``extra`` of this distribution bring.

    Raises `MissingExtraError` with the command that installs it when the module, or one that it needs in turn, is not
    installed, and with the library's name where the system lacks one that it is linked to (OpenCV needs libGL, which
    slim images leave out). Any other failure of the import is passed on: it is a fault, not a missing package.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        needed = "" if missing == module else f" (which {module} needs)"
        raise MissingExtraError(
            f'Expected the optional package {missing}{needed}, got none installed; run: pip install "genwm[{extra}]"'
        ) from error
    except ImportError as error:
        library, _, reason = str(error).partition(": ")
        if "cannot open shared object" not in reason:  # a broken one, say
            raise
        raise MissingExtraError(
            f"Expected the system's library {library}, which {module} needs, got none; install it with the system's "
            "package manager (on Debian, libgl1 has libGL.so.1 and libglib2.0-0 has libgthread-2.0.so.0)"
        ) from error
