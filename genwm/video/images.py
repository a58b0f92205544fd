"""Still images through Pillow, which keeps what FFmpeg drops: alpha, EXIF, ICC profiles, chroma resolution."""

from __future__ import annotations

import logging
import os
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from genwm.errors import DecodeError, MissingExtraError, UnsupportedFormatError
from genwm.output import atomic_output
from genwm.video.encoding import encoding_errors
from genwm.video.model import Source, VideoInfo, YUVFrame
from genwm.video.opening import MAX_PIXELS, check_size, name_of
from genwm.video.reading import approved, probe

log = logging.getLogger("genwm.video")

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
# What Pillow calls a JPEG, and one with further pictures, as telephones write them.
_JPEGS = ("JPEG", "MPO")
_READ = ("PNG", "JPEG", "WEBP")
_ORIENTATION_TAG, _RESOLUTION_TAG = 0x0112, 0x011A
_JPEG_XMP_BYTES = 65_000
_XMP_TEXT = "XML:com.adobe.xmp"
_PNG_UNIT = 100_000  # of its gamma and chromaticities
_SRGB_GAMMA = 1 / 2.2
_SRGB_POINTS = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # white, red, green, blue

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
    warn: Callable[[str], None] = log.warning,
    approve: Callable[[VideoInfo], None] | None = None,
) -> VideoInfo:
    """Passes a still PNG, JPEG or WebP through ``edit`` and writes it in the format that ``target``'s suffix names.

    ``edit`` gets one :class:`YUVFrame` of 8-bit 4:4:4 full-range BT.601 in display orientation; the *difference* that
    it makes is added to the RGB picture, so what it leaves alone stays exactly as it was. Alpha, ICC profile, gamma and
    chromaticities of a PNG, EXIF and XMP data, text, comment and resolution are kept as far as the format has them (the
    picture is turned upright, 16-bit channels become 8-bit, palettes and CMYK become RGB, and of several pictures in a
    JPEG only the first is kept).
    ``quality`` is that of JPEG and WebP, 1 to 100, by default 95, and lossless for a WebP made of a PNG or a lossless
    WebP. ``warn`` and ``approve`` as of :func:`genwm.video.edit_video`.

    Errors: those of :func:`genwm.video.probe`, OutputExistsError, SameFileError, UnsupportedFormatError, DiskFullError.
    """
    from PIL import ImageOps

    name = os.fspath(target)
    kind = _format_of(name)
    with (
        _opened(source, max_pixels) as (image, source_info),
        atomic_output(target, source=source, overwrite=overwrite) as part,
    ):
        origin = image.format
        chroma = _subsampling(image) if origin in _JPEGS else "4:4:4"
        exif = image.getexif()
        turned = ImageOps.exif_transpose(image)
        upright = _plain(turned)
        exif.pop(_ORIENTATION_TAG, None)
        text = getattr(image, "text", None) or {}
        save, lost = _notes(turned.info, text, kind, has_resolution=_RESOLUTION_TAG in exif)
        if "mp" in image.info:  # the index of a multi-picture file (CIPA DC-007)
            lost.append("further pictures, such as a depth or gain map,")
        if lost:
            warn(f"{name} cannot hold the {' and the '.join(lost)} of {name_of(source)}; left out")
        if source_info.bit_depth > 8:
            warn(f"{name} has 8 bits a channel of the {source_info.bit_depth} of {name_of(source)}")
        if image.mode == "CMYK":
            warn(f"{name} has RGB colours for the CMYK of {name_of(source)}")
        elif image.info.get("icc_profile"):
            save["icc_profile"] = image.info["icc_profile"]
        if len(exif):
            save["exif"] = exif.tobytes()
        if kind == "JPEG" and "A" in upright.getbands():
            raise UnsupportedFormatError(f"Expected a format that keeps transparency, got {name}; write .png or .webp")
        result = _edited(upright, edit)
        if kind == "JPEG":
            save |= {"quality": quality or 95, "subsampling": chroma if result.mode == "RGB" else -1}
        elif kind == "WEBP":
            # FFmpeg decodes the lossless kind of WebP to RGB, the other to YUV.
            lossless = quality is None and (origin == "PNG" or source_info.pixel_format == "argb")
            save |= {"lossless": True} if lossless else {"quality": quality or 95}
            save["exact"] = True
        with encoding_errors(name):
            result.save(part, kind, **save)
        info = approved(part, name, approve)
    return info


def _notes(
    info: Mapping[Any, Any], text: Mapping[str, str], kind: str, *, has_resolution: bool
) -> tuple[dict[str, Any], list[str]]:
    """What a file says beside its picture, ``info`` and PNG's ``text`` of Pillow: as Pillow writes it into a file of a
    ``kind``, and in words what that cannot hold. ``has_resolution``: the EXIF data has one."""
    save: dict[str, Any] = {}
    lost = ["transparent colour of 16 bits"] if "lost_transparency" in info else []
    xmp = info.get("xmp") or info.get(_XMP_TEXT) or b""
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    # What wrote 'Raw profile' is ImageMagick: EXIF and ICC data, which are kept as such.
    text = {key: value for key, value in text.items() if key != _XMP_TEXT and not key.startswith("Raw profile type")}
    comment = info.get("comment")
    if kind == "PNG":
        save["pnginfo"] = _png_text(text, xmp, comment)
        _add_colours(save["pnginfo"], info)
    else:
        if "icc_profile" not in info and "srgb" not in info and not _looks_like_srgb(info):
            lost.append("meaning of the colours (gAMA, cHRM)")
        if text:
            lost.append("text")
        if xmp and (kind == "WEBP" or len(xmp) <= _JPEG_XMP_BYTES):
            save["xmp"] = xmp
        elif xmp:
            lost.append("XMP data")
        if comment and kind == "JPEG":
            save["comment"] = comment
        elif comment:
            lost.append("comment")
    if "dpi" in info and kind != "WEBP":
        save["dpi"] = info["dpi"]
    elif "dpi" in info and not has_resolution:
        lost.append("resolution")
    return save, lost


def _add_colours(chunks: Any, info: Mapping[Any, Any]) -> None:
    """What a PNG says of its colours without a profile: into the chunks of another one."""
    if "gamma" in info:
        chunks.add(b"gAMA", struct.pack(">I", round(info["gamma"] * _PNG_UNIT)))
    if "chromaticity" in info:
        chunks.add(b"cHRM", struct.pack(">8I", *(round(part * _PNG_UNIT) for part in info["chromaticity"])))
    if "srgb" in info:
        chunks.add(b"sRGB", bytes([info["srgb"]]))


def _looks_like_srgb(info: Mapping[Any, Any]) -> bool:
    """Whether what a PNG says of its colours is what everybody assumes of one that says nothing."""
    near = abs(info.get("gamma", _SRGB_GAMMA) - _SRGB_GAMMA) < 0.005
    pairs = zip(info.get("chromaticity", _SRGB_POINTS), _SRGB_POINTS, strict=True)
    return near and all(abs(one - other) < 0.005 for one, other in pairs)


def _png_text(text: Mapping[str, str], xmp: bytes, comment: bytes | None) -> Any:
    from PIL.PngImagePlugin import PngInfo, iTXt

    chunks = PngInfo()
    for key, value in text.items():
        if isinstance(value, iTXt):
            chunks.add_itxt(key, value, value.lang or "", value.tkey or "")
        else:
            chunks.add_text(key, value)
    if xmp:
        chunks.add_itxt(_XMP_TEXT, xmp.decode("utf-8", "replace"))
    if comment and "Comment" not in text:
        chunks.add_text("Comment", comment.decode("utf-8", "replace") if isinstance(comment, bytes) else comment)
    return chunks


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
            f"Expected an image name ending in {', '.join(_FORMATS)}, got {name or 'an empty one'}; rename it"
        ) from None


@contextmanager
def _opened(source: Source, max_pixels: int) -> Iterator[tuple[Any, VideoInfo]]:
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
            image = Image.open(source, formats=_READ)
        except OSError:
            if info.container.upper() in _READ:
                raise _damaged(name, "a header that makes no sense") from None
            raise UnsupportedFormatError(
                f"Expected a PNG, JPEG or WebP image in {name}, got {info.container.upper()}; convert it first"
            ) from None
        except (SyntaxError, ValueError) as error:  # a chunk that is too short
            raise _damaged(name, f"'{error}'") from None
        with image:
            if getattr(image, "n_frames", 1) > 1 and image.format not in _JPEGS:
                raise UnsupportedFormatError(f"Expected a still image in {name}, got an animation; convert it to video")
            try:
                _scale_transparent_colour(image)  # which loading would forget the layout for
                image.load()
                getattr(image, "text", None)  # of PNG may come behind the picture
            except (OSError, SyntaxError, ValueError, IndexError) as error:
                raise _damaged(name, f"'{error}'") from None
            yield image, info


def _damaged(name: str, what: str) -> DecodeError:
    return DecodeError(f"Expected a whole image in {name}, got {what}; copy it again")


def _scale_transparent_colour(image: Any) -> None:
    """Pillow gives the colour that nothing is seen of in the samples of a PNG, and those of its pictures have 8 bits.
    Of 16 bits the colour cannot be told from its neighbours any more."""
    layout = str(image.tile[0][3]) if image.format == "PNG" and image.tile else ""
    if "transparency" not in image.info or image.mode == "P" or layout in ("1", "L", "RGB"):
        return
    colour = image.info.pop("transparency")
    if layout in ("L;2", "L;4"):
        image.info["transparency"] = colour * (85 if layout == "L;2" else 17)
    else:
        image.info["lost_transparency"] = True


def _plain(image: Any) -> Any:
    """The image as 8-bit L, LA, RGB or RGBA."""
    if "transparency" in image.info and image.mode in ("1", "L", "RGB"):  # one colour that nothing is seen of
        converted = image.convert("RGBA" if image.mode == "RGB" else "LA")
        if converted.getextrema()[-1][0] < 255:
            return converted
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
