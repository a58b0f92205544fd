"""Still images through Pillow, which keeps what FFmpeg drops: alpha, EXIF, ICC profiles, chroma resolution."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from genwm.errors import DecodeError, MissingExtraError, NoVideoError, UnsupportedFormatError
from genwm.output import atomic_output
from genwm.video.encoding import encoding_errors
from genwm.video.model import Source, VideoInfo, YUVFrame
from genwm.video.opening import MAX_PIXELS, check_size, name_of
from genwm.video.reading import probe

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_ORIENTATION_TAG = 0x0112

# JFIF (ITU-T T.871): full-range BT.601. Columns of a change in (Y, Cb, Cr) -> a change in (R, G, B).
_TO_RGB = np.array([[1.0, 0.0, 1.402], [1.0, -0.344136, -0.714136], [1.0, 1.772, 0.0]], np.float32)


def edit_image(
    source: Source,
    target: str | os.PathLike[str],
    edit: Callable[[YUVFrame], YUVFrame],
    *,
    quality: int | None = None,
    overwrite: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> VideoInfo:
    """Passes a still PNG, JPEG or WebP through ``edit`` and writes it in the format that ``target``'s suffix names.

    ``edit`` gets one :class:`YUVFrame` of 8-bit 4:4:4 full-range BT.601 in display orientation; the *difference* that
    it makes is added to the RGB picture, so what it leaves alone stays exactly as it was. Alpha, ICC profile and EXIF
    data are kept (the picture is turned upright, 16-bit channels become 8-bit, palettes become RGB). ``quality`` is
    that of JPEG and WebP, 1 to 100, by default 95, and lossless for a WebP made of a PNG.

    Errors: those of :func:`genwm.video.probe`, OutputExistsError, SameFileError, UnsupportedFormatError, DiskFullError.
    """
    from PIL import ImageOps

    name = os.fspath(target)
    kind = _format_of(name)
    with _opened(source, max_pixels) as image, atomic_output(target, source=source, overwrite=overwrite) as part:
        origin = image.format
        chroma = _subsampling(image) if origin == "JPEG" else "4:4:4"
        save: dict[str, Any] = {}
        if image.info.get("icc_profile") and image.mode != "CMYK":
            save["icc_profile"] = image.info["icc_profile"]
        exif = image.getexif()
        upright = _plain(ImageOps.exif_transpose(image))
        exif.pop(_ORIENTATION_TAG, None)
        if len(exif):
            save["exif"] = exif.tobytes()
        if kind == "JPEG" and "A" in upright.getbands():
            raise UnsupportedFormatError(f"Expected a format that keeps transparency, got {name}; write .png or .webp")
        result = _edited(upright, edit)
        lossless = quality is None and origin == "PNG"
        if kind == "JPEG":
            save |= {"quality": quality or 95, "subsampling": chroma if result.mode == "RGB" else -1}
        elif kind == "WEBP":
            save |= {"lossless": True} if lossless else {"quality": quality or 95}
            save["exact"] = True
        with encoding_errors(name):
            result.save(part, kind, **save)
    return probe(name)


def write_image(
    target: str | os.PathLike[str] | BinaryIO,
    rgb: NDArray[np.uint8],
    *,
    format: str | None = None,
    quality: int | None = None,
    lossless: bool = False,
) -> None:
    """Writes uint8 ``(height, width, 3)`` RGB as PNG, JPEG (4:2:0 as cameras and sites write it) or WebP.

    ``format`` is 'png', 'jpeg' or 'webp', by default that of the suffix; ``quality`` 1 to 100, 95 by default.
    A path is replaced if it exists, and only once the whole image is written.
    """
    Image = _pillow()
    is_path = isinstance(target, str | os.PathLike)
    name = os.fspath(target) if isinstance(target, str | os.PathLike) else "<stream>"
    kind = format.upper() if format else _format_of(name)
    options: dict[str, Any] = {"PNG": {}, "JPEG": {"quality": quality or 95, "subsampling": "4:2:0"}}.get(
        kind, {"lossless": True} if lossless else {"quality": quality or 95}
    )
    image = Image.fromarray(np.ascontiguousarray(rgb))
    with encoding_errors(name):
        if is_path:
            with atomic_output(name, overwrite=True) as part:
                image.save(part, kind, **options)
        else:
            image.save(target, kind, **options)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError(
            "Expected Pillow for still images, got no such package; run: pip install pillow"
        ) from None
    return Image


def _format_of(name: str) -> str:
    suffix = os.path.splitext(name)[1].lower()
    try:
        return _FORMATS[suffix]
    except KeyError:
        raise UnsupportedFormatError(
            f"Expected an image name ending in {', '.join(_FORMATS)}, got {name}; rename the output"
        ) from None


@contextmanager
def _opened(source: Source, max_pixels: int) -> Iterator[Any]:
    """An image of a sane size, decoded. The container layer looks at it first: one set of errors for every input."""
    Image = _pillow()
    name = name_of(source)
    info = probe(source)
    check_size(name, info.coded_width, info.coded_height, max_pixels)
    if not info.is_still:
        raise UnsupportedFormatError(f"Expected a still image in {name}, got video; edit it as a video")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own bomb warning: the size is checked already
        try:
            image = Image.open(source, formats=("PNG", "JPEG", "WEBP"))
        except OSError:
            raise NoVideoError(f"Expected a PNG, JPEG or WebP image in {name}, got another; convert it first") from None
        with image:
            if getattr(image, "n_frames", 1) > 1 and image.format != "JPEG":
                raise UnsupportedFormatError(f"Expected a still image in {name}, got an animation; convert it to video")
            try:
                image.load()
            except (OSError, SyntaxError, ValueError) as error:
                raise DecodeError(f"Expected a whole image in {name}, got '{error}'; copy it again") from None
            yield image


def _plain(image: Any) -> Any:
    """The image as 8-bit L, LA, RGB or RGBA."""
    if image.mode in ("L", "RGB", "RGBA", "LA"):
        return image
    if image.mode.startswith("I"):
        Image = _pillow()
        return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode in ("P", "PA"):
        return image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGB")


def _subsampling(image: Any) -> str:
    """Chroma resolution of a JPEG."""
    with suppress(Exception):
        from PIL import JpegImagePlugin

        return {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}.get(JpegImagePlugin.get_sampling(image), "4:4:4")
    return "4:4:4"


def _edited(image: Any, edit: Callable[[YUVFrame], YUVFrame]) -> Any:
    """The image with the change that ``edit`` makes to its YCbCr planes."""
    Image = _pillow()
    bands = image.getbands()
    alpha = image.getchannel("A") if "A" in bands else None
    colour = image.convert("RGB") if bands[0] == "R" else image.convert("L").convert("RGB")
    before = np.asarray(colour.convert("YCbCr"))
    y, u, v = (np.ascontiguousarray(before[..., channel]) for channel in range(3))
    frame = YUVFrame(y=y, u=u, v=v, bit_depth=8, full_range=True, time_s=0.0, color_space="bt601", key=True)
    after = edit(frame)
    change = np.stack([after.y, after.u, after.v], axis=-1).astype(np.float32) - before
    if bands[0] == "L":
        grey = np.asarray(image.getchannel("L")) + change[..., 0]
        result = Image.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8))
    else:
        rgb = np.asarray(colour) + change @ _TO_RGB.T
        result = Image.fromarray(np.clip(np.rint(rgb), 0, 255).astype(np.uint8))
    if alpha is not None:
        result.putalpha(alpha)
    return result
