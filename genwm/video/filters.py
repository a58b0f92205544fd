"""Colour conversion through FFmpeg's filters.

Frames are converted here, and not by PyAV's ``reformat``, wherever chroma is resampled to or from RGB: only the scale
filter can be told where chroma samples lie, and half a pixel of error in colour is visible in any comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from fractions import Fraction
from functools import partial
from itertools import pairwise

import av
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from genwm.video.model import ColorSpace
from genwm.video.pixels import is_rgb

Filter = Callable[[VideoFrame | None], Generator[VideoFrame]]

# Codecs that put chroma in the middle. All others mean 'left', and the scale filter reads them so only when told.
_CENTRED = {"mpeg1video", "mjpeg", "jpeg", "webp"}


def to_yuv(
    width: int, height: int, pixel_format: str, space: ColorSpace, full_range: bool, time_base: Fraction
) -> Filter:
    """Converts rgb24 frames to YUV with chroma on the left, as MPEG codecs have it."""
    bounds = "full" if full_range else "limited"
    options = f"out_color_matrix={space}:out_range={bounds}:out_chroma_loc=left"
    options += ":flags=bicubic+accurate_rnd+full_chroma_inp"
    return _chain(width, height, "rgb24", time_base, ("scale", options), ("format", f"pix_fmts={pixel_format}"))


def to_rgb(frame: VideoFrame, size: tuple[int, int], space: ColorSpace, full_range: bool, codec: str) -> Filter:
    """Converts frames like ``frame`` to rgb24 of ``size`` (width, height)."""
    options = f"w={size[0]}:h={size[1]}:flags=bicubic+accurate_rnd+full_chroma_int"
    if not is_rgb(frame):
        options += f":in_color_matrix={space}:in_range={'full' if full_range else 'limited'}"
        if codec not in _CENTRED:
            options += ":in_chroma_loc=left"
    time_base = frame.time_base or Fraction(1, 1000)
    return _chain(
        frame.width, frame.height, frame.format.name, time_base, ("scale", options), ("format", "pix_fmts=rgb24")
    )


def to_palettes(width: int, height: int, time_base: Fraction) -> Filter:
    """Converts rgb24 frames to palette frames, each with a palette of its own."""
    graph, source, sink = _graph(width, height, "rgb24", time_base)
    split, palette = graph.add("split"), graph.add("palettegen", "stats_mode=single")
    use = graph.add("paletteuse", "new=1")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return partial(_run, graph)


def _chain(width: int, height: int, pixel_format: str, time_base: Fraction, *filters: tuple[str, str]) -> Filter:
    graph, source, sink = _graph(width, height, pixel_format, time_base)
    for one, other in pairwise((source, *(graph.add(name, options) for name, options in filters), sink)):
        one.link_to(other)
    graph.configure()
    return partial(_run, graph)


def _graph(
    width: int, height: int, pixel_format: str, time_base: Fraction
) -> tuple[Graph, FilterContext, FilterContext]:
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=width, height=height, format=VideoFormat(pixel_format), time_base=time_base)
    return graph, source, graph.add("buffersink")


def _run(graph: Graph, frame: VideoFrame | None) -> Generator[VideoFrame]:
    """The frames that one more frame (None: the end) brings out of a graph."""
    graph.vpush(frame)
    while True:
        try:
            ready = graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
        yield ready
