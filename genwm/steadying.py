"""Steadier video: less of the brightness and colour that a decoder lets go up and down where nothing happens.

Each frame is averaged with pairs of frames, one as long before as the other is after, place by place, with the more
weight the closer the pair's mean is to the frame's own colour: closely over `CELL` x `CELL` pixels, roughly at the
pixel itself. A pair around what flickers agrees with it; so does one around what fades, for that lies halfway; one
around an edge that passes does not, and there the frame stays as it was. It is a bilateral filter (Tomasi and Manduchi,
ICCV 1998) along time, of pairs instead of single values, steered by a coarse picture too, in which what flickers by a
level is told from fine noise.
At the ends of a clip, where there are no pairs, single frames take their place. Motion is not followed, so that it does
little under a moving camera.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

#: Frames before and after that are averaged with, and how often it is done.
REACH, PASSES = 12, 2
#: Pixels, the side of the squares whose mean colours are compared.
CELL = 8
#: Difference of the means, of colours in [0, 1], at which the weight has fallen to 1/e; of pixels, so many times it.
SPREAD, FINE = 4 / 255, 3.0


class _Held(NamedTuple):
    frame: Tensor
    coarse: Tensor


def steadied(
    frames: Iterable[Tensor], *, reach: int = REACH, spread: float = SPREAD, passes: int = PASSES
) -> Iterator[Tensor]:
    """The same frames with less flicker; at most ``passes * (2 * reach + 1)`` of them are held at a time.

    Args:
        frames: float ``(3, H, W)`` each, RGB in [0, 1], all of one size.
        reach: frames before and after that count;  spread: see `SPREAD`;  passes: how often the clip is filtered.
    """
    for _ in range(passes):
        frames = _once(frames, reach, spread)
    yield from frames


def _once(frames: Iterable[Tensor], reach: int, spread: float) -> Iterator[Tensor]:
    held: deque[_Held] = deque(maxlen=2 * reach + 1)
    place = 0  # in ``held``, of the frame whose turn is next
    for frame in frames:
        if len(held) == held.maxlen:
            place -= 1
        held.append(_Held(frame, _coarse(frame)))
        if len(held) - 1 - place == reach:
            yield _averaged(held, place, spread)
            place += 1
    for left in range(place, len(held)):
        # What is as far before as after: at the end, frames of long before play no part.
        yield _averaged(list(held)[max(0, left - reach) :], min(left, reach), spread)


def _coarse(frame: Tensor) -> Tensor:
    from torch.nn.functional import avg_pool2d

    return avg_pool2d(frame[None].float(), CELL, ceil_mode=True, count_include_pad=False)[0]


def _averaged(held: Sequence[_Held], place: int, spread: float) -> Tensor:
    """The frame at ``place`` of ``held``, averaged with its pairs there, and with those left over without a partner."""
    import torch
    from torch.nn.functional import interpolate

    own = _Held(held[place].frame.float(), held[place].coarse)
    before, after = [held[index] for index in reversed(range(place))], [*held][place + 1 :]
    total, counted = own.frame.clone(), torch.ones_like(own.frame[:1])
    for step in range(max(len(before), len(after))):
        sides = [side[step] for side in (before, after) if step < len(side)]
        frame = torch.stack([one.frame.float() for one in sides]).mean(0)
        coarse = torch.stack([one.coarse for one in sides]).mean(0)
        alike = interpolate(_alike(coarse, own.coarse, spread)[None], size=frame.shape[1:], mode="bilinear")[0]
        weight = len(sides) * alike * _alike(frame, own.frame, FINE * spread)
        total.addcmul_(frame, weight)
        counted += weight
    return total.div_(counted).to(held[place].frame.dtype)


def _alike(picture: Tensor, other: Tensor, spread: float) -> Tensor:
    """1 where two pictures ``(3, h, w)`` have the same colour, towards 0 where they differ: ``(1, h, w)``."""
    gap = (picture - other).abs().amax(0, keepdim=True)
    return gap.div_(spread).square_().neg_().exp_()
