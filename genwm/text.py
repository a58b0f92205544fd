"""Text that comes from outside, such as the names of files, made fit to be written."""

from __future__ import annotations


def escaped(text: str) -> str:
    r"""The text as UTF-8 can hold it: a byte of a file name in another encoding, a lone surrogate, becomes ``\xff``."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # surrogates that stand for no byte
        return text.encode("utf-8", "backslashreplace").decode()
