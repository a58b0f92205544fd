"""Still images through ``genwm.video``."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from genwm import errors, video
from tests.clips import psnr, scene
from tests.written import brighter, png, rgb_of, unchanged, written


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return scene(192, 128, 12)


def natural() -> np.ndarray:
    return scene(96, 64, 1)[0]


@pytest.mark.parametrize(("suffix", "codec"), [("png", "png"), ("jpg", "jpeg"), ("webp", "webp")])
def test_stills_are_probed_read_and_edited(tmp_path: Path, suffix: str, codec: str) -> None:
    path, out = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    video.write_image(path, natural())
    info = video.probe(path)
    assert (info.codec, info.is_still, info.frame_count, info.width, info.height) == (codec, True, 1, 96, 64)
    assert psnr(rgb_of(path)[0], natural()) > 28
    assert video.edit_image(path, out, brighter).codec == codec
    before, after = next(video.read_planes(path)), next(video.read_planes(out))
    scale = 1 if before.full_range else 219 / 255
    assert after.y.mean() - before.y.mean() == pytest.approx(4 * scale, abs=0.3)


def test_png_keeps_alpha_and_every_bit_that_is_not_edited(tmp_path: Path) -> None:
    alpha = np.arange(96, dtype=np.uint8)[None].repeat(64, axis=0)
    Image.fromarray(np.dstack([natural(), alpha])).save(tmp_path / "in.png")
    video.edit_image(tmp_path / "in.png", tmp_path / "out.png", unchanged)
    with Image.open(tmp_path / "out.png") as image:
        assert np.array_equal(np.asarray(image), np.dstack([natural(), alpha]))
    video.edit_image(tmp_path / "in.png", tmp_path / "out.webp", unchanged)
    with Image.open(tmp_path / "out.webp") as image:
        assert np.array_equal(np.asarray(image), np.dstack([natural(), alpha]))
    with pytest.raises(errors.UnsupportedFormatError, match="transparency"):
        video.edit_image(tmp_path / "in.png", tmp_path / "out.jpg", unchanged)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "I;16", "CMYK"])
def test_every_kind_of_pixels(tmp_path: Path, mode: str) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    colour = Image.fromarray(natural())
    sixteen = Image.fromarray(natural()[..., 0].astype(np.uint16) * 257)
    (sixteen if mode == "I;16" else colour.convert(mode)).save(tmp_path / f"in.{suffix}")
    info = video.edit_image(tmp_path / f"in.{suffix}", tmp_path / "out.png", brighter)
    assert (info.width, info.height) == (96, 64)


def test_jpeg_keeps_exif_and_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    Image.fromarray(natural()).save(tmp_path / "in.jpg", quality=97, exif=exif, icc_profile=b"profile")
    assert video.probe(tmp_path / "in.jpg").rotation == 90
    assert next(video.read_planes(tmp_path / "in.jpg")).y.shape == (96, 64)
    info = video.edit_image(tmp_path / "in.jpg", tmp_path / "out.jpg", unchanged)
    assert (info.width, info.height, info.rotation) == (64, 96, 0)
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.getexif()[0x010E] == "a description"
        assert 0x0112 not in image.getexif()
        assert image.info["icc_profile"] == b"profile"
        assert psnr(np.asarray(image), np.rot90(natural(), -1)) > 30


XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'


def written_still(path: Path) -> Path:
    """A still with everything to say that its format has room for."""
    image = Image.fromarray(natural())
    if path.suffix == ".png":
        chunks = PngInfo()
        chunks.add_text("Author", "me")
        chunks.add_itxt("Titel", "Größe €", "de", "Title")
        chunks.add_itxt("XML:com.adobe.xmp", XMP)
        chunks.add_text("Raw profile type exif", "\nexif\n       6\n457869660000\n")
        image.save(path, pnginfo=chunks, dpi=(300, 300))
    elif path.suffix == ".jpg":
        image.save(path, quality=97, xmp=XMP.encode(), comment=b"a comment", dpi=(300, 300))
    else:
        image.save(path, lossless=True, xmp=XMP.encode())
    return path


def said(path: Path) -> dict[str, object]:
    with Image.open(path) as image:
        text = dict(getattr(image, "text", {}))
        xmp = image.info.get("xmp") or text.pop("XML:com.adobe.xmp", "")
        text.pop("XML:com.adobe.xmp", None)
        dpi = round(image.info["dpi"][0]) if "dpi" in image.info else None
        return {"xmp": xmp if isinstance(xmp, str) else xmp.decode(), "dpi": dpi, "text": text,
                "comment": image.info.get("comment")}  # fmt: skip


TEXT = {"Author": "me", "Titel": "Größe €"}


@pytest.mark.parametrize(
    ("source", "target", "expected", "lost"),
    [
        ("png", "png", {"xmp": XMP, "dpi": 300, "text": TEXT, "comment": None}, ""),
        ("png", "jpg", {"xmp": XMP, "dpi": 300, "text": {}, "comment": None}, "the text of"),
        ("png", "webp", {"xmp": XMP, "dpi": None, "text": {}, "comment": None}, "the text and the resolution of"),
        ("jpg", "jpg", {"xmp": XMP, "dpi": 300, "text": {}, "comment": b"a comment"}, ""),
        ("jpg", "png", {"xmp": XMP, "dpi": 300, "text": {"Comment": "a comment"}, "comment": None}, ""),
        ("jpg", "webp", {"xmp": XMP, "dpi": None, "text": {}, "comment": None}, "the comment and the resolution of"),
        ("webp", "webp", {"xmp": XMP, "dpi": None, "text": {}, "comment": None}, ""),
    ],
)
def test_stills_keep_what_they_say(
    tmp_path: Path, source: str, target: str, expected: dict[str, object], lost: str
) -> None:
    path, told = written_still(tmp_path / f"in.{source}"), []
    video.edit_image(path, tmp_path / f"out.{target}", unchanged, warn=told.append)
    assert said(tmp_path / f"out.{target}") == expected
    assert len(told) == bool(lost)
    assert lost in "".join(told)


@pytest.mark.parametrize(("mode", "colour"), [("RGB", (255, 0, 255)), ("L", 7)])
def test_a_colour_that_is_transparent_stays_so(tmp_path: Path, mode: str, colour: Any) -> None:
    image = Image.fromarray(natural()).convert(mode)
    image.paste(colour, (0, 0, 10, 10))
    image.save(tmp_path / "in.png", transparency=colour)
    video.edit_image(tmp_path / "in.png", tmp_path / "out.png", brighter)
    with Image.open(tmp_path / "in.png") as one, Image.open(tmp_path / "out.png") as other:
        before, after = (np.asarray(each.convert("RGBA"))[..., 3] for each in (one, other))
    assert not before[:10, :10].any()
    np.testing.assert_array_equal(after, before)


def raw_png(path: Path, samples: np.ndarray, depth: int, colour: tuple[int, ...]) -> Path:
    """Samples ``(H, W, channels)`` of that many bits, with a colour that nothing is seen of."""
    height, width, channels = samples.shape
    bits = (samples.reshape(height, -1, 1) >> np.arange(depth - 1, -1, -1)) & 1
    lines = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    pixels = b"".join(b"\0" + line.tobytes() for line in lines)
    header = struct.pack(">IIBBBBB", width, height, depth, 2 if channels == 3 else 0, 0, 0, 0)
    chunks = {b"IHDR": header, b"tRNS": struct.pack(f">{channels}H", *colour), b"IDAT": zlib.compress(pixels),
              b"IEND": b""}  # fmt: skip
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()))  # fmt: skip
    return path


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_transparent_grey_of_few_bits_stays_so(tmp_path: Path, depth: int) -> None:
    samples = np.zeros((24, 40, 1), int)
    samples[:10, :10] = 1
    video.edit_image(raw_png(tmp_path / "in.png", samples, depth, (1,)), tmp_path / "out.png", unchanged)
    with Image.open(tmp_path / "out.png") as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGBA"))[..., 3] == 0, samples[..., 0] == 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_colour_of_sixteen_bits_is_told(tmp_path: Path, channels: int) -> None:
    samples = np.full((24, 40, channels), 0x3400)
    told: list[str] = []
    path = raw_png(tmp_path / "in.png", samples, 16, (0x1234,) * channels)
    video.edit_image(path, tmp_path / "out.png", unchanged, warn=told.append)
    with Image.open(tmp_path / "out.png") as image:
        assert "A" not in image.getbands()
        assert int(np.asarray(image).max()) == 0x34
    assert "cannot hold the transparent colour of 16 bits of" in told[0]


def test_a_transparent_colour_that_no_pixel_has_can_become_a_jpeg(tmp_path: Path) -> None:
    path = raw_png(tmp_path / "in.png", np.full((24, 40, 3), 60), 8, (1, 2, 3))
    video.edit_image(path, tmp_path / "out.jpg", unchanged)
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.mode == "RGB"


@pytest.mark.parametrize(("name", "before"), [
    *((name, b"IDAT") for name in (b"tRNS", b"gAMA", b"cHRM", b"pHYs", b"sRGB", b"iCCP")), (b"iCCP", b"IEND"),
])  # fmt: skip
def test_a_chunk_that_is_cut_short_is_one_sentence(tmp_path: Path, name: bytes, before: bytes) -> None:
    source, target = tmp_path / "a.png", tmp_path / "b.png"
    Image.new("RGB", (64, 64)).save(source)
    data, short = source.read_bytes(), struct.pack(">I", 0) + name + struct.pack(">I", zlib.crc32(name))
    place = data.index(before) - 4
    source.write_bytes(data[:place] + short + data[place:])
    with pytest.raises(errors.DecodeError, match="Expected a whole image"):
        video.edit_image(source, target, unchanged)
    assert not target.exists()


@pytest.mark.parametrize(("gamma", "lost"), [(100_000, "the meaning of the colours (gAMA, cHRM) of"), (45_455, "")])
def test_what_a_png_says_of_its_colours_is_kept(tmp_path: Path, gamma: int, lost: str) -> None:
    chunks, points = PngInfo(), (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    chunks.add(b"gAMA", struct.pack(">I", gamma))
    chunks.add(b"cHRM", struct.pack(">8I", *points))
    Image.fromarray(natural()).save(tmp_path / "in.png", pnginfo=chunks)
    told: list[str] = []
    video.edit_image(tmp_path / "in.png", tmp_path / "out.png", unchanged, warn=told.append)
    with Image.open(tmp_path / "out.png") as image:
        assert image.info["gamma"] == gamma / 100_000
        assert image.info["chromaticity"] == tuple(point / 100_000 for point in points)
    assert not told
    video.edit_image(tmp_path / "in.png", tmp_path / "out.jpg", unchanged, warn=told.append)
    assert len(told) == bool(lost)
    assert lost in "".join(told)


def test_xmp_that_a_jpeg_cannot_hold_is_told(tmp_path: Path) -> None:
    Image.fromarray(natural()).save(tmp_path / "in.webp", xmp=b"x" * 70_000)
    told: list[str] = []
    video.edit_image(tmp_path / "in.webp", tmp_path / "out.jpg", unchanged, warn=told.append)
    assert "the XMP data of" in told[0]


def test_a_lossless_webp_stays_lossless(tmp_path: Path) -> None:
    video.edit_image(written_still(tmp_path / "in.webp"), tmp_path / "out.webp", unchanged)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.webp")), natural())
    video.write_image(tmp_path / "lossy.webp", natural())
    video.edit_image(tmp_path / "lossy.webp", tmp_path / "again.webp", unchanged)
    assert video.probe(tmp_path / "again.webp").pixel_format == "yuv420p"


def test_sixteen_bits_that_become_eight_are_told(tmp_path: Path) -> None:
    Image.fromarray(natural()[..., 0].astype(np.uint16) * 257).save(tmp_path / "in.png")
    told: list[str] = []
    video.edit_image(tmp_path / "in.png", tmp_path / "out.png", unchanged, warn=told.append)
    assert told == [f"{tmp_path / 'out.png'} has 8 bits a channel of the 16 of {tmp_path / 'in.png'}"]


@pytest.mark.parametrize("suffix", ["tif", "bmp"])
def test_formats_that_are_only_read(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(natural()).save(tmp_path / f"in.{suffix}")
    with pytest.raises(errors.UnsupportedFormatError, match=f"got {'TIFF' if suffix == 'tif' else 'BMP'}; convert"):
        video.edit_image(tmp_path / f"in.{suffix}", tmp_path / "out.png", unchanged)


def animated_webp(path: Path, pictures: np.ndarray, durations_ms: list[int]) -> Path:
    first, *others = map(Image.fromarray, pictures[: len(durations_ms)])
    first.save(path, save_all=True, append_images=others, duration=durations_ms, lossless=True)
    return path


def test_an_animated_webp_is_read_with_its_times(tmp_path: Path, pictures: np.ndarray) -> None:
    path = animated_webp(tmp_path / "in.webp", pictures, [100, 40, 60, 0])
    info = video.probe(path)
    assert (info.container, info.codec, info.frame_count, info.is_still) == ("webp", "webp", 4, False)
    assert (info.duration_s, info.fps) == (0.3, pytest.approx(4 / 0.3))  # one without a duration is shown for 0.1 s
    with path.open("rb") as file, video.read_rgb(file) as reader:
        times, frames = zip(*reader, strict=True)
    assert times == (0.0, 0.1, 0.14, 0.2)
    assert np.array_equal(frames, pictures[:4])
    assert reader.warnings == []
    planes = list(video.read_planes(path, select="key", span=[video.Span(0.1, 0.14), video.Span(0.2)]))
    assert [each.time_s for each in planes] == [0.1, 0.2]
    assert all(each.full_range for each in planes)


def test_an_animated_webp_is_not_edited(tmp_path: Path, pictures: np.ndarray) -> None:
    path = animated_webp(tmp_path / "in.webp", pictures, [40, 40])
    with pytest.raises(errors.UnsupportedFormatError, match="got an animated WebP, which is only read"):
        video.edit_video(path, tmp_path / "out.mp4", unchanged)
    assert os.listdir(tmp_path) == ["in.webp"]


def test_what_is_wrong_with_an_animated_webp_is_told(
    tmp_path: Path, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = animated_webp(tmp_path / "in.webp", pictures, [40] * 4)
    whole = path.read_bytes()
    for size in (30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(errors.TruncatedError, match="got one that breaks off"):
            video.probe(path)
    second = whole.index(b"ANMF", whole.index(b"ANMF") + 1)
    path.write_bytes(whole[: second + 40] + b"\xff" * 40 + whole[second + 80 :])
    with video.read_rgb(path) as reader:
        assert len(list(reader)) == 1
    assert reader.warnings[0] == "1 damaged piece(s) of the video were skipped"
    path.write_bytes(whole[:24] + b"\xff\x3f\0" * 2 + whole[30:])  # 16,384 pixels a side
    with pytest.raises(errors.TooLargeError, match="got 16384 x 16384"):
        video.probe(path)
    path.write_bytes(whole)
    monkeypatch.setattr("genwm.video.pictures.MAX_WEBP_CHUNKS", 5)
    with pytest.raises(errors.TooLargeError, match="got more; convert it to MP4"):
        video.probe(path)
    monkeypatch.setattr("genwm.video.pictures.MAX_WEBP_BYTES", len(whole) - 1)
    with pytest.raises(errors.TooLargeError, match="of at most 0 MiB"):
        video.probe(path)


@pytest.mark.parametrize("compression", ["jpeg", "zstd", "lzma"])
def test_a_tiff_that_ffmpeg_does_not_read_is_seen(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "in.tif"
    try:
        Image.fromarray(natural()).save(path, compression=compression)
    except OSError:
        pytest.skip(f"Pillow has no {compression} here")
    info = video.probe(path)
    assert (info.container, info.codec, info.is_still, info.width) == ("tiff", "tiff", True, natural().shape[1])
    assert psnr(rgb_of(path)[0], natural()) > 28
    with path.open("rb") as file:
        assert len(list(video.read_planes(file))) == 1


def test_a_tiff_with_damaged_jpeg_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "in.tif"
    Image.fromarray(natural()).save(path, compression="jpeg")
    with Image.open(path) as image:
        start = image.tag_v2[273][0]
    path.write_bytes(path.read_bytes()[:start] + bytes(64) + path.read_bytes()[start + 64 :])
    with pytest.raises(errors.DecodeError, match="got damaged data only"):
        video.probe(path)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_of_several_pictures_in_a_jpeg_the_first_is_kept(tmp_path: Path, suffix: str) -> None:
    first, second = Image.fromarray(natural()), Image.fromarray(255 - natural())
    first.save(tmp_path / "in.jpg", "MPO", save_all=True, append_images=[second], quality=95)  # as telephones do
    told: list[str] = []
    info = video.edit_image(tmp_path / "in.jpg", tmp_path / f"out.{suffix}", unchanged, warn=told.append)
    assert info.is_still
    assert psnr(rgb_of(tmp_path / f"out.{suffix}")[0], natural()) > 28
    assert told == [f"{tmp_path / f'out.{suffix}'} cannot hold the further pictures, such as a depth or gain map, of "
                    f"{tmp_path / 'in.jpg'}; left out"]  # fmt: skip


def test_cmyk_that_becomes_rgb_is_told(tmp_path: Path) -> None:
    Image.fromarray(natural()).convert("CMYK").save(tmp_path / "in.jpg")
    told: list[str] = []
    video.edit_image(tmp_path / "in.jpg", tmp_path / "out.jpg", unchanged, warn=told.append)
    assert told == [f"{tmp_path / 'out.jpg'} has RGB colours for the CMYK of {tmp_path / 'in.jpg'}"]


def test_an_avif_is_a_still_that_is_only_read(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "in.avif"), "w") as output:
        stream = output.add_stream("libsvtav1", rate=1, options={"preset": "12", "svtav1-params": "lp=1"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        output.mux(stream.encode(av.VideoFrame.from_ndarray(natural(), format="rgb24")))
        output.mux(stream.encode())
    info = video.probe(tmp_path / "in.avif")
    assert (info.container, info.codec, info.is_still, info.frame_count, info.fps) == ("avif", "av1", True, 1, None)
    assert psnr(rgb_of(tmp_path / "in.avif")[0], natural()) > 25
    with pytest.raises(errors.UnsupportedFormatError, match="got AVIF; convert it first"):
        video.edit_image(tmp_path / "in.avif", tmp_path / "out.png", unchanged)


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_stills_are_shown_as_their_exif_data_says(tmp_path: Path, suffix: str, number: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = number
    Image.fromarray(natural()).save(tmp_path / f"in.{suffix}", exif=exif, quality=95)
    with Image.open(tmp_path / f"in.{suffix}") as image:
        shown = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert psnr(rgb_of(tmp_path / f"in.{suffix}")[0], shown) > 28


@pytest.mark.parametrize("number", [0, 6])
def test_the_colour_profile_of_a_png_does_not_end_the_process(tmp_path: Path, number: int) -> None:
    """PyAV 18 frees its name twice. In a process of its own, for it may well end."""
    exif = Image.Exif()
    if number:
        exif[0x0112] = number
    Image.fromarray(natural()).save(tmp_path / "in.png", icc_profile=b"profile", exif=exif)
    program = "import sys; from genwm import video; print(*next(video.read_planes(sys.argv[1])).y.shape)"
    read = subprocess.run([sys.executable, "-c", program, tmp_path / "in.png"], capture_output=True, text=True)
    assert (read.returncode, read.stdout) == (0, "96 64\n" if number else "64 96\n")


def test_a_colour_profile_goes_through_every_format(tmp_path: Path) -> None:
    Image.fromarray(natural()).save(tmp_path / "0.png", icc_profile=b"profile")
    for number, suffix in enumerate(["png", "jpg", "webp", "png"]):
        source = next(tmp_path.glob(f"{number}.*"))
        video.edit_image(source, tmp_path / f"{number + 1}.{suffix}", unchanged)
    with Image.open(tmp_path / "4.png") as image:
        assert image.info["icc_profile"] == b"profile"


def test_an_animated_png_is_a_video(tmp_path: Path, pictures: np.ndarray) -> None:
    first, *others = map(Image.fromarray, pictures[:3])
    text = PngInfo()
    text.add_text("Comment", "acTL")  # a word in a chunk is no chunk
    first.save(tmp_path / "still.png", pnginfo=text)
    first.save(tmp_path / "in.png", save_all=True, append_images=others, duration=40)
    assert video.probe(tmp_path / "still.png").is_still
    assert not video.probe(tmp_path / "in.png").is_still
    assert np.array_equal(rgb_of(tmp_path / "in.png"), pictures[:3])
    video.edit_video(tmp_path / "in.png", tmp_path / "out.mp4", unchanged, preset="ultrafast")
    assert len(rgb_of(tmp_path / "out.mp4")) == 3
    with pytest.raises(errors.UnsupportedFormatError, match="still"):
        video.edit_image(tmp_path / "in.png", tmp_path / "out.png", unchanged)


def test_stills_that_are_not(tmp_path: Path, pictures: np.ndarray) -> None:
    written(tmp_path / "in.gif", pictures[:2], "gif")
    with pytest.raises(errors.UnsupportedFormatError, match="still"):
        video.edit_image(tmp_path / "in.gif", tmp_path / "out.png", unchanged)
    (tmp_path / "broken.png").write_bytes(png(96, 64)[:-20])
    with pytest.raises(errors.InputError):
        video.edit_image(tmp_path / "broken.png", tmp_path / "out.png", unchanged)
    video.write_image(tmp_path / "in.png", natural())
    with pytest.raises(errors.SameFileError):
        video.edit_image(tmp_path / "in.png", tmp_path / "in.png", unchanged, overwrite=True)
    assert not (tmp_path / "out.png").exists()


def test_images_in_memory() -> None:
    memory = io.BytesIO()
    video.write_image(memory, natural(), format="jpeg", quality=80)
    assert psnr(rgb_of(io.BytesIO(memory.getvalue()))[0], natural()) > 25
