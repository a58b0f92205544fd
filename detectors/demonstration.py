"""The page of ``genwm demo``: the clip, what was done to it, what the detector saw, and what it read. One HTML file
without references to anything outside."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from importlib import resources
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from genwm.keys import Key
from genwm.text import chance

if TYPE_CHECKING:
    from detectors.record import Record

_SCALE = 6  # screen pixels of one step of a correlation surface, a side
_FRAME_BUDGET = 128
#: Where a correlation of a wrong key practically never comes, and where the picture is brightest.
_Z_SHOWN = 12.0


@dataclass(frozen=True, slots=True)
class Surface:
    """How well a key's pilots fit at each shift of the mark's grid.

    Attributes:
        z: float32 ``(rows, columns)``, in standard deviations of what chance gives.
    """

    z: NDArray[np.float32]

    @property
    def peak(self) -> float:
        """The highest z."""
        return float(self.z.max())


def surfaces(path: Path, key: Key, other: Key) -> tuple[Surface, Surface]:
    """The correlation surfaces of a file for its key, at the scale at which that fits best, and for another at its own
    best."""
    from genwm.lattice import geometry, pilots, tile
    from genwm.lattice.evidence import WORKING_LINES, Accumulator, of_one_size
    from genwm.lattice.spectrum import transform
    from genwm.video import read_planes

    collected = Accumulator()
    with read_planes(path, max_short_side=WORKING_LINES, max_frames=_FRAME_BUDGET) as reader:
        for frame in reader:
            collected.add(frame)
    spectrum = transform(reduce(add, of_one_size(collected.take())))
    made = []
    for one in (key, other):
        signs = tile.pilot_signs(one)
        best = max(geometry.cropped(spectrum, [signs], keep=1), key=lambda candidate: candidate.z)
        samples = pilots.sample_pilots(spectrum, best.matrix[None])
        heights = pilots.surfaces(pilots.sign_pilots(samples, signs))[0] / pilots.spread(samples)[0]
        made.append(Surface(heights.astype(np.float32)))
    return made[0], made[1]


def page(
    *,
    title: str,
    source: str,
    prompt: str,
    payload: str,
    exact: bool,
    attack: str,
    marked: Sequence[NDArray[np.uint8]],
    attacked: Sequence[NDArray[np.uint8]],
    window: tuple[float, float, float, float],
    evidence: tuple[Surface, Surface],
    record: Record,
    seconds: Mapping[str, float],
) -> str:
    """The page's HTML.

    Args:
        title: of the page.
        source: one sentence on where the clip comes from.
        prompt: of the generator, '' where there was none.
        payload: what was written, 16 hex digits.
        exact: whether it came back.
        attack: one sentence on what was done to the clip.
        marked, attacked: some frames of both clips, RGB uint8 ``(H, W, 3)``.
        window: left, top, width, height of the cut as shares of the picture.
        evidence: of :func:`surfaces`.
        record: what the detector says of the attacked clip.
        seconds: how long each step took.
    """
    css = resources.files("detectors").joinpath("scan/assets/page.css").read_text(encoding="utf-8")
    css += (".frames img { filter: none; } .pair { display: flex; flex-wrap: wrap; gap: 1.5rem; } .pair img { "
            "image-rendering: pixelated; width: 20rem; max-width: 100%; } .cut { position: absolute; border: 2px solid "
            "#fff; outline: 1px solid #000; } figure { margin: 0; } figcaption { color: var(--soft); }")
    verdict = "All 64 bits came back." if exact else "The payload did not come back."
    left, top, width, height = (f"{100 * share:.2f}%" for share in window)
    cut = f'<div class="cut" style="left:{left};top:{top};width:{width};height:{height}"></div>'
    words = f"<p>Prompt: <q>{html.escape(prompt)}</q></p>" if prompt else ""
    timing = "; ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title><style>{css}</style></head><body>
<h1>{html.escape(title)}</h1>
<p class="verdict {record.verdict}">{verdict}</p>
<h2>1. The clip, marked</h2>
<p>{html.escape(source)}</p>{words}
<p>The payload <code>{payload}</code> was written before the frames were rounded to 8 bits.
The white frame is what the next step keeps.</p>
<div class="frames">{_figures(marked, cut)}</div>
<h2>2. What was done to it</h2>
<p>{html.escape(attack)}</p>
<div class="frames">{_figures(attacked)}</div>
<h2>3. The evidence</h2>
<p>Each square shows how well a key's pattern fits the attacked clip at every shift of its grid; white is
{_Z_SHOWN:g} standard deviations of chance or more. The detector knows neither the cut nor the original: it tries every
scale and shift, and counts them all in the p-value.</p>
<div class="pair">{_surface("with the key that marked it", evidence[0])}
{_surface("with another key", evidence[1])}</div>
<h2>4. The reading</h2>
<table class="facts">{_facts(record, payload)}</table>
<p class="soft">{html.escape(timing)}. What a missing mark says: nothing; see the documentation.</p>
</body></html>
"""


def _facts(record: Record, payload: str) -> str:
    mark = record.watermark
    facts = [("verdict", record.verdict), ("payload written", payload)]
    if mark is not None:
        facts += [("payload read", mark.payload or "none"), ("key", mark.key or "none"),
                  ("p-value", f"{chance(mark.log10_p)}: chance of such a fit without a mark, after all that was tried")]
        if mark.geometry is not None:
            facts.append(("geometry", mark.geometry.in_words()))
    if record.synthetic is not None:
        seen = record.synthetic
        facts.append(("classifier", f"{seen.status}: probability {seen.probability:.2f} that a generator made it, from "
                                    f"the pictures alone (model {seen.model})"))
    facts.append(("frames read", str(record.input.frames_read)))
    facts += [("reason", reason) for reason in record.reasons]
    return "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in facts)


def _figures(frames: Sequence[NDArray[np.uint8]], over: str = "") -> str:
    return "".join(f'<figure><div class="frame"><img src="{_picture(frame, "jpeg")}" alt="frame {number}">{over}</div>'
                   f"</figure>" for number, frame in enumerate(frames, 1))


def _surface(caption: str, surface: Surface) -> str:
    levels = np.clip(surface.z / _Z_SHOWN, 0, 1)
    rows, columns = np.unravel_index(int(surface.z.argmax()), surface.z.shape)
    centred = np.roll(levels, (levels.shape[0] // 2 - rows, levels.shape[1] // 2 - columns), (0, 1))
    grey = (255 * centred).astype(np.uint8).repeat(_SCALE, 0).repeat(_SCALE, 1)
    return (f'<figure><img src="{_picture(grey, "png")}" alt="correlation {html.escape(caption)}"><figcaption>'
            f"{html.escape(caption)}: highest {surface.peak:.1f}, moved to the middle</figcaption></figure>")


def _picture(pixels: NDArray[np.uint8], kind: str) -> str:
    """A data URI of a picture."""
    from PIL import Image

    held = io.BytesIO()
    Image.fromarray(pixels).save(held, kind, **({"quality": 88} if kind == "jpeg" else {}))
    return f"data:image/{kind};base64,{base64.b64encode(held.getvalue()).decode()}"
