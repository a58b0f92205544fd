"""Text that comes from outside, such as the names of files, made fit to be written."""

from __future__ import annotations

import re

# A backslash that begins what `escaped` would write for a byte or surrogate, or for itself in a name.
_LOOKS_ESCAPED = re.compile(r"\\(?=x(?:5c|[89a-f][0-9a-f])|ud[89a-f][0-9a-f]{2})")


def escaped(text: str) -> str:
    r"""The text as UTF-8 can hold it: a byte of a file name in another encoding, a lone surrogate, becomes ``\xff``."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # surrogates that stand for no byte
        return text.encode("utf-8", "backslashreplace").decode()


def escaped_name(name: str) -> str:
    r"""`escaped`, so that no two names become one: a backslash that is part of the name and looks like the start of an
    escape is written ``\x5c``. All others stay as they are."""
    return escaped(_LOOKS_ESCAPED.sub(r"\\x5c", name))
