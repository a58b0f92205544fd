"""The motion vectors that an encoder chose, as its decoder reports them."""

from __future__ import annotations

from itertools import islice

import numpy as np
from av.codec.context import Flags2
from av.sidedata.sidedata import Type
from numpy.typing import NDArray

from genwm.video.decoding import decoded
from genwm.video.model import Source
from genwm.video.opening import open_input
from genwm.video.pixels import safe_side_data


def read_motion(source: Source, *, max_frames: int | None = None, block: int = 8) -> NDArray[np.float32]:
    """Motion towards the past of every predicted frame of an MPEG-like stream, on a grid of ``block`` pixels.

    Returns float32 ``(frames, height // block, width // block, 2)``: pixels to the right and downwards, from the place
    in the frame that is predicted to the place that it is taken from; NaN where a block has no such prediction.
    Frames without any vector (key frames) are left out. Errors: those of ``genwm.video.probe``.
    """
    fields: list[NDArray[np.float32]] = []
    with open_input(source, threads=1) as opened:
        opened.stream.codec_context.flags2 |= Flags2.export_mvs
        for _, frame in islice(decoded(opened), max_frames):
            if (vectors := safe_side_data(frame).get(Type.MOTION_VECTORS)) is None:
                continue
            vectors = vectors.to_ndarray()
            vectors = vectors[vectors["source"] < 0]
            field = np.full((frame.height // block, frame.width // block, 2), np.nan, np.float32)
            motion = np.stack([vectors["motion_x"], vectors["motion_y"]], axis=1) / np.maximum(
                vectors["motion_scale"], 1)[:, None]  # fmt: skip
            # A vector stands for a block of w x h around its destination.
            for down in range(0, 16, block):
                for right in range(0, 16, block):
                    inside = (vectors["h"] > down) & (vectors["w"] > right)
                    rows = (vectors["dst_y"] - vectors["h"] // 2 + down)[inside] // block
                    columns = (vectors["dst_x"] - vectors["w"] // 2 + right)[inside] // block
                    fits = (rows >= 0) & (rows < field.shape[0]) & (columns >= 0) & (columns < field.shape[1])
                    field[rows[fits], columns[fits]] = motion[inside][fits]
            fields.append(field)
    return np.stack(fields) if fields else np.zeros((0, 0, 0, 2), np.float32)
