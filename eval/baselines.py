"""Other people's watermarks, behind one interface, so that the same measurements run on them.

The three methods of the package invisible-watermark (https://github.com/ShieldMnt/invisible-watermark, MIT) and
blind_watermark (https://github.com/guofei9987/blind_watermark, MIT), as their users call them: frame by frame, at the
strengths that they ship. They carry bits, not a decision: they have no key (blind_watermark's passwords are left as
they come), and no way to say that a frame holds no mark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from genwm.errors import InputError, PayloadError
from genwm.extras import require

__all__ = ["BASELINES", "MIN_PIXELS", "Baseline", "baseline", "vote"]

Frames = NDArray[np.uint8]
Bits = NDArray[np.uint8]

BLIND = "blind"
MIN_PIXELS = 256 * 256  # invisible-watermark refuses smaller frames


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """One method: ``name`` as its package spells it, ``max_bits`` the longest message, ``exact_bits`` whether it takes
    that length alone, ``about`` what it does."""

    name: str
    max_bits: int
    exact_bits: bool
    about: str

    def embed(self, frames: Frames, bits: Sequence[int] | Bits) -> Frames:
        """Marks every frame with the same bits.

        ``frames`` uint8 RGB ``(N, H, W, 3)`` of at least `MIN_PIXELS` pixels each; ``bits`` zeros and ones. Returns
        uint8 RGB of the same shape. Raises InputError, PayloadError, MissingExtraError.
        """
        message = self._checked(bits)
        if self.name == BLIND:
            return self._each(frames, lambda bgr: _blind_marked(bgr, message))
        encoder = _package().WatermarkEncoder()
        encoder.set_watermark("bits", message)
        return self._each(frames, lambda bgr: encoder.encode(bgr, self.name))

    def extract(self, frames: Frames, bit_count: int) -> Bits:
        """Reads ``bit_count`` bits from every frame: uint8 zeros and ones ``(N, bit_count)``. See `vote`.

        ``frames`` and errors as of `embed`. Frames without a mark give bits as well.
        """
        self._checked([0] * bit_count)
        _check_frames(frames)
        if self.name == BLIND:
            return np.stack([_blind_read(_reversed(frame), bit_count)[0] for frame in frames])
        decoder = _package().WatermarkDecoder("bits", bit_count)
        read = [np.asarray(decoder.decode(_reversed(frame), self.name), dtype=np.uint8) for frame in frames]
        return np.stack(read).reshape(len(frames), bit_count)

    def score(self, frame: Frames, bit_count: int) -> NDArray[np.float64]:
        """The method's own evidence for a 1 in each bit, before it decides: float64 ``(bit_count,)``, 0.5 in the
        middle. ``frame`` uint8 RGB ``(H, W, 3)``; errors as of `embed`."""
        self._checked([0] * bit_count)
        _check_frames(frame[None])
        bgr = _reversed(frame)
        if self.name == BLIND:
            return _blind_read(bgr, bit_count)[1]
        _package()
        return _riva_score(bgr) if self.name == "rivaGan" else _blocks_score(self.name, bgr, bit_count)

    def _checked(self, bits: Sequence[int] | Bits) -> list[int]:
        message = [int(bit) for bit in bits]
        if not 0 < len(message) <= self.max_bits or (self.exact_bits and len(message) != self.max_bits):
            wanted = f"{'exactly' if self.exact_bits else 'up to'} {self.max_bits} bits"
            raise PayloadError(f"Expected {wanted} for {self.name}, got {len(message)}; change the message's length")
        if any(bit not in (0, 1) for bit in message):
            raise PayloadError(f"Expected bits of 0 and 1 for {self.name}, got other numbers; unpack the message first")
        return message

    def _each(self, frames: Frames, change: Callable[[Frames], Any]) -> Frames:
        _check_frames(frames)
        result = np.empty_like(frames)
        for index, frame in enumerate(frames):
            result[index] = _reversed(np.asarray(change(_reversed(frame)), dtype=np.uint8))
        return result


BASELINES = {
    method.name: method
    for method in (
        Baseline(
            name="dwtDct",
            max_bits=128,
            exact_bits=False,
            about="largest DCT coefficient of each 4x4 block of a Haar approximation, U plane, quantised (step 36)",
        ),
        Baseline(
            name="dwtDctSvd",
            max_bits=128,
            exact_bits=False,
            about="largest singular value of each 4x4 DCT block of a Haar approximation, U plane, quantised (step 36)",
        ),
        Baseline(
            name="rivaGan",
            max_bits=32,
            exact_bits=True,
            about="attention network (Zhang et al. 2019, arXiv:1909.01285), its ONNX weights of 32 bits",
        ),
        Baseline(
            name=BLIND,
            max_bits=128,
            exact_bits=False,
            about="two singular values of each 4x4 DCT block of a Haar approximation, all planes, quantised (36, 20)",
        ),
    )
}


def baseline(name: str) -> Baseline:
    """The method of that name; InputError names those there are."""
    try:
        return BASELINES[name]
    except KeyError:
        raise InputError(f"Expected a method of {', '.join(BASELINES)}, got {name!r}; choose one") from None


def vote(readings: Bits) -> Bits:
    """The majority over frames, as users of a frame-by-frame watermark take it: ``(N, bits)`` -> uint8 ``(bits,)``.

    A draw reads as 1.
    """
    return np.asarray(2 * readings.sum(axis=0, dtype=np.int64) >= len(readings), dtype=np.uint8)


def _blocks_score(name: str, bgr: Frames, bit_count: int) -> NDArray[np.float64]:
    """The mean over blocks of what each says, which the package rounds. Its sums are looked at on their way."""
    module = require(f"imwatermark.{'maxDct' if name == 'dwtDct' else 'dwtDctSvd'}", "baselines")
    reader = module.EmbedMaxDct(wmLen=bit_count) if name == "dwtDct" else module.EmbedDwtDctSvd(wmLen=bit_count)
    summed, seen = reader.decode_frame, []

    def watched(*arguments: Any) -> Any:
        seen.append(summed(*arguments))
        return seen[-1]

    reader.decode_frame = watched
    reader.decode(bgr)
    return np.array([np.mean(values) for values in seen[-1]], np.float64)


def _riva_score(bgr: Frames) -> NDArray[np.float64]:
    """The network's output, moved so that its threshold of 0.52 is 0.5."""
    decoder = require("imwatermark.rivaGan", "baselines").RivaWatermark.decoder
    values = (bgr.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None, :, None]
    return np.asarray(decoder.run(None, {"frame": values})[0][0], np.float64) - 0.02


def _blind_marked(bgr: Frames, message: Sequence[int]) -> NDArray[np.floating]:
    marker = _blind()
    marker.read_img(img=bgr)
    marker.read_wm(list(message), mode="bit")
    result: NDArray[np.floating] = np.rint(marker.embed())
    return result


def _blind_read(bgr: Frames, bit_count: int) -> tuple[Bits, NDArray[np.float64]]:
    """The bits as the package gives them, and the means over blocks that it clusters into two."""
    reader = _blind()
    raw = reader.bwm_core.extract_raw
    seen = []

    def watched(img: Frames) -> Any:
        seen.append(raw(img=img))
        return seen[-1]

    reader.bwm_core.extract_raw = watched
    bits = np.asarray(reader.extract(embed_img=bgr, wm_shape=bit_count, mode="bit"), np.uint8)
    means = reader.extract_decrypt(reader.bwm_core.extract_avg(seen[-1]))
    return bits, np.asarray(means, np.float64)


def _check_frames(frames: Frames) -> None:
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise InputError(
            f"Expected RGB frames, uint8 (N, H, W, 3), got {frames.dtype} {frames.shape}; convert them first"
        )
    height, width = frames.shape[1:3]
    if height * width < MIN_PIXELS:
        raise InputError(
            f"Expected frames of at least {MIN_PIXELS} pixels for invisible-watermark, got {width} x {height}; "
            "leave these out"
        )


def _reversed(frame: Frames) -> Frames:
    """RGB <-> BGR, in memory of its own: the package writes into what it is given."""
    return np.ascontiguousarray(frame[..., ::-1])


@cache
def _package() -> ModuleType:
    """invisible-watermark with its networks loaded on one quiet thread each."""
    package = require("imwatermark", "baselines")
    runtime = require("onnxruntime", "baselines")
    networks = require("imwatermark.rivaGan", "baselines")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    folder = Path(str(networks.__file__)).parent
    # Its own loadModel opens the same two files on every core.
    for part in ("encoder", "decoder"):
        session = runtime.InferenceSession(folder / f"rivagan_{part}.onnx", options, ["CPUExecutionProvider"])
        setattr(networks.RivaWatermark, part, session)
    return package


def _blind() -> Any:
    """A fresh marker of blind_watermark, without its greeting."""
    with patch("multiprocessing.set_start_method"):  # it sets that of the whole process when it is imported
        package = require("blind_watermark", "baselines")
    package.bw_notes.close()
    return package.WaterMark(mode="common")
