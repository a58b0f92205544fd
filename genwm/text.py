"""Words for people: counts, chances, and text from outside, such as the names of files, made fit to be written."""

from __future__ import annotations

import re
import shlex

# A backslash that begins what `escaped` would write for a byte or surrogate, or for itself in a name.
_LOOKS_ESCAPED = re.compile(r"\\(?=x(?:5c|[89a-f][0-9a-f])|ud[89a-f][0-9a-f]{2})")
# What has a meaning in a shell's $'...', but for the escapes of bytes, which mean there what they stand for.
_TO_ESCAPE = re.compile(r"\\(?!x(?:5c|[89a-f][0-9a-f]))|'")
# Control characters (C0, DEL, C1), separators of lines, and marks of direction.
_COMMANDS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun: '1 clip', '2 clips'; ``plural`` where that is not the noun with an s."""
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"


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


def shown(text: str) -> str:
    r"""`escaped`, with nothing in it that a terminal would obey: control characters, ends of lines and marks that turn
    the direction of writing become ``\x1b``, ``\u202e``."""
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), escaped(text))


def shown_lines(text: str) -> str:
    """`shown`, but for ends of lines and tabs."""
    parts = re.split("(\n|\t)", text.replace("\r\n", "\n"))
    return "".join(part if part in ("\n", "\t") else shown(part) for part in parts)


def quoted(name: str) -> str:
    r"""The file that `escaped_name` calls so, as a word for a shell. What a page or terminal would not show as it is
    becomes ``$'...'``, which bash and zsh know, so that it can be copied from there."""
    name = f"./{name}" if name.startswith("-") else name
    if not _LOOKS_ESCAPED.search(name) and not _COMMANDS.search(name):
        return shlex.quote(name)
    return "$'" + _COMMANDS.sub(_bytes_escaped, _TO_ESCAPE.sub(r"\\\g<0>", name)) + "'"


def _bytes_escaped(found: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02x}" for byte in found[0].encode())


def chance(log10_p: float) -> str:
    """A probability, given by its base-10 logarithm: ``10^-12.3``; ``0.18`` where it is a fair one."""
    return f"10^{log10_p:.4g}" if log10_p < -2 else f"{10**log10_p:.2g}"
