"""One step of one method in a process of its own, whose time and memory are measured from outside.

    python -m eval.methods.step {mark,read} METHOD CLIP STORE FRAMES

``mark`` marks the first frames of CLIP and keeps them in STORE without loss; ``read`` reads STORE.
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

from eval.methods.registry import methods_named
from eval.workers import use_one_thread
from genwm.keys import Key
from genwm.video import read_planes, write_video


def main(step: str, method: str, clip: str, store: str, frames: str) -> None:
    use_one_thread()
    (watermark,) = methods_named([method])
    key = Key("cost", bytes(range(32)), "2026-01-01T00:00:00+00:00")
    if step == "mark":
        with read_planes(clip, max_frames=int(frames), threads=1) as reader:
            marked = watermark.mark(reader, key, 0x0123456789ABCDEF)
            write_video(store, marked, fps=25, codec="ffv1", threads=1)
    else:
        watermark.read(BytesIO(Path(store).read_bytes()), [key])


if __name__ == "__main__":
    main(*sys.argv[1:])
