"""What happens to a clip on its way: changes of a segment, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from detectors.synthetic.canonical import Segment, Stack, reencoded
from genwm.video import VideoCodec

Delivery = Callable[[Segment], Segment]


def _encode(segment: Segment, codec: VideoCodec, crf: float) -> Segment:
    crop, small = (reencoded(stack, codec=codec, crf=crf, gop=48)[0] for stack in (segment.crop, segment.small))
    return replace(segment, crop=crop, small=small)


def _resize(segment: Segment, scale: float) -> Segment:
    rows, columns = (max(2, round(side * scale / 2) * 2) for side in segment.crop.y.shape[1:])
    return replace(segment, crop=segment.crop.scaled(rows, columns))


def _crop(segment: Segment, kept: float) -> Segment:
    def cut(stack: Stack) -> Stack:
        rows, columns = (round(side * (1 - kept) / 4) * 2 for side in stack.y.shape[1:])
        return stack.cut(rows, columns, stack.y.shape[1] - 2 * rows, stack.y.shape[2] - 2 * columns)

    small = cut(segment.small).scaled(*segment.small.y.shape[1:])
    return replace(segment, crop=cut(segment.crop), small=small)


def _as_is(segment: Segment) -> Segment:
    return segment


#: Every delivery by name: codec and rate factor, share of the sides that is kept, scale of the sides.
DELIVERIES: dict[str, Delivery] = {
    "none": _as_is,
    "h264-23": partial(_encode, codec="h264", crf=23),
    "h264-28": partial(_encode, codec="h264", crf=28),
    "h264-30": partial(_encode, codec="h264", crf=30),
    "h264-40": partial(_encode, codec="h264", crf=40),
    "hevc-30": partial(_encode, codec="hevc", crf=30),
    "vp9-38": partial(_encode, codec="vp9", crf=38),
    "av1-40": partial(_encode, codec="av1", crf=40),
    "crop-0.95": partial(_crop, kept=0.95),
    "crop-0.6": partial(_crop, kept=0.6),
    "scale-0.75": partial(_resize, scale=0.75),
    "scale-0.5": partial(_resize, scale=0.5),
}

#: Mild ones, which a verdict has to survive, with the words for it.
MILD: dict[str, str] = {
    "h264-28": "encoded once more", "scale-0.75": "made smaller by a quarter", "crop-0.95": "cropped by 5 %",
}  # fmt: skip
