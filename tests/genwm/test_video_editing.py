"""Editing keeps every frame and every kind of sound, and says what the output cannot hold."""

from __future__ import annotations

from pathlib import Path

import av

from genwm import video
from tests.clips import make_clip
from tests.written import times_of, unchanged


def sound_first(path: Path, source: Path) -> Path:
    """The streams of a file in the other order, as telephones write them."""
    with av.open(str(source)) as clip, av.open(str(path), "w") as output:
        streams = [*clip.streams.audio, *clip.streams.video]
        copies = {stream.index: output.add_stream_from_template(stream, opaque=True) for stream in streams}
        for packet in clip.demux(streams):
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                output.mux(packet)
    return path


def test_the_last_frames_of_a_video_behind_its_sound_are_kept(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", width=192, height=128, frames=12, preset="medium", audio=True)
    path, out = sound_first(tmp_path / "in.mp4", tmp_path / "clip.mp4"), tmp_path / "out.mp4"
    video.edit_video(path, out, unchanged, preset="ultrafast")
    assert len(times_of(path)) == 12
    assert times_of(out) == times_of(path)
