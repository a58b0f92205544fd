"""What containers hold, as FFmpeg writes them: codecs, sound, languages, and what they cannot say."""

from __future__ import annotations

from genwm.video.encoding import VideoCodec

# The codec that an edited copy gets when none is asked for; everything else becomes H.264.
FAMILIES: dict[str, VideoCodec] = {
    "h264": "h264",
    "hevc": "hevc",
    "vp8": "vp9",
    "vp9": "vp9",
    "av1": "av1",
    "prores": "prores",
    "dnxhd": "prores",
    "ffv1": "ffv1",
    "huffyuv": "ffv1",
    "ffvhuff": "ffv1",
    "utvideo": "ffv1",
}
# What each container takes, best first; a family that is not in the list gives way to the first.
CONTAINERS: dict[str, tuple[VideoCodec, ...]] = {
    "webm": ("vp9", "av1"),
    "mp4": ("h264", "hevc", "vp9", "av1"),
    "mov": ("h264", "hevc", "prores"),
    "mpegts": ("h264", "hevc"),
    "avi": ("h264", "ffv1"),
    "matroska": ("h264", "hevc", "vp9", "av1", "prores", "ffv1"),
}
NO_ROTATION = {"avi", "mpegts"}
# Neither these codecs nor the containers, as FFmpeg writes them, say that pixels are not square.
SQUARE_ONLY = {(container, codec) for container in ("matroska", "webm") for codec in ("vp9", "av1", "ffv1")}
# What FFmpeg writes into MPEG-TS so that it can be told again; anything else becomes nameless data.
COPIES_IN_MPEGTS = {
    "aac", "aac_latm", "ac3", "dts", "eac3", "mp1", "mp2", "mp3", "opus", "truehd", "dvb_subtitle", "dvb_teletext",
}  # fmt: skip
# What FFmpeg takes for QuickTime at first, and refuses when it writes the header.
NOT_IN_MOV = {"flac", "opus"}
# ISO 639-2 has two names for some languages, and FFmpeg knows one of them for QuickTime (and its own for Swedish).
MAC_LANGUAGES = {
    "sqi": "alb", "hye": "arm", "eus": "baq", "mya": "bur", "zho": "chi", "cze": "ces", "nld": "dut", "fre": "fra",
    "kat": "geo", "deu": "ger", "ell": "gre", "isl": "ice", "mkd": "mac", "msa": "may", "fas": "per", "rum": "ron",
    "slo": "slk", "bod": "tib", "cym": "wel", "swe": "sve",
}  # fmt: skip
# Which loudspeakers a number of channels is for, where a file does not say: FFmpeg's own guess. MP4 must say for PCM.
LOUDSPEAKERS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
# Written by the muxer itself, or true of the old stream only.
STALE_TAGS = {
    "encoder", "major_brand", "minor_version", "compatible_brands", "duration", "vendor_id", "number_of_frames",
    "number_of_bytes", "bps", "_statistics_writing_app", "_statistics_writing_date_utc", "_statistics_tags", "software",
    "alpha_mode",
}  # fmt: skip
