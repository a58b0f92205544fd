"""A heat map as plain numbers, as it goes from the worker that made it to pages for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

#: A part of a frame: top, left, height and width as shares of it, and its heat in [0, 1], where .5 is the average.
Part = tuple[float, float, float, float, float]
#: How much a part is filled at most, and the heat from which on it is.
_MOST, _FULL = 0.65, 0.75


def checked(parts: Iterable[Sequence[object]]) -> tuple[Part, ...]:
    """A heat map that came from another process. ValueError where it is none."""
    found = []
    for part in parts:
        top, left, height, width, heat = (float(str(number)) for number in part)
        if not all(0 <= number <= 1 for number in (top, left, height, width, heat)):
            raise ValueError("a heat map that is none")
        found.append((top, left, height, width, heat))
    return tuple(found)


def shapes(parts: Iterable[Part]) -> str:
    """SVG: what is hotter than the average, the more filled the hotter."""
    return "".join(
        f'<rect x="{left:.2%}" y="{top:.2%}" width="{width:.2%}" height="{height:.2%}" '
        f'fill-opacity="{_MOST * min(1.0, (heat - 0.5) / (_FULL - 0.5)):.2f}"/>'
        for top, left, height, width, heat in parts if heat > 0.5
    )  # fmt: skip


def document(parts: Iterable[Part]) -> str:
    """`shapes` as a picture of its own, to be laid over the frame at its size."""
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="100%" height="100%" fill="#c0261d">{shapes(parts)}</svg>'
