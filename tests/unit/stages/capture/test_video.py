"""Video files: whole ones, cut-off ones, and what is none."""

import os
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.common.errors import UserError
from pipeline.config.sources import SourceSpec
from stages.capture.reader import MAX_BYTES, SourceFailed
from stages.capture.sources.video import VideoReader, open_file
from stages.capture.spec import CaptureSettings
from tests.support.media import (
    ONE,
    UNIT,
    corner,
    cut,
    frame_span,
    noise,
    open_source,
    play,
    rotate,
    trim,
    write_clip,
    write_noise,
)

CONTAINERS = ["clip.mp4", "clip.avi", "clip.mkv"]


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_whole_clip(tmp_path: Path, name: str) -> None:
    path = write_noise(tmp_path / name)
    info = open_source(path).info
    assert (info.name, info.kind, info.width, info.height, info.fps) == (name, "file", 64, 48, 25)
    pictures, error = play(path)
    assert (len(pictures), error) == (40, "")
    assert [p.time_s for p in pictures] == pytest.approx([n / 25 for n in range(40)], abs=0.002)
    for picture in pictures:
        assert picture.image is not None
        assert picture.image.shape == (48, 64, 3)
        assert picture.image.dtype == np.uint8
        assert picture.image.flags["C_CONTIGUOUS"]


def test_colours_are_bgr(tmp_path: Path) -> None:
    blue = np.zeros((48, 64, 3), np.uint8)
    blue[:] = (250, 10, 10)
    (picture,), _ = play(write_clip(tmp_path / "blue.mp4", [blue]))
    assert picture.image is not None
    assert np.abs(picture.image.mean((0, 1)) - (250, 10, 10)).max() < 8


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("share", [0.9, 0.5, 0.3])
def test_a_cut_off_clip_gives_what_there_is_and_says_so(tmp_path: Path, name: str, share: float) -> None:
    pictures, error = play(cut(write_noise(tmp_path / name), share))
    assert 0.2 * share * 40 < len(pictures) < 40
    assert f"cut-{name}: cut off" in error
    assert "missing" in error
    assert "\n" not in error


def test_a_last_frame_that_is_torn_is_told_though_it_can_be_decoded(tmp_path: Path) -> None:
    whole = write_clip(
        tmp_path / "clip.avi", [noise(n, 64, 48) for n in range(8)], codec="mjpeg", pix_fmt="yuvj420p"
    )
    data = whole.read_bytes()
    index = data.rindex(b"idx1")
    (tmp_path / "torn.avi").write_bytes(data[: index - 200])
    pictures, error = play(tmp_path / "torn.avi")
    assert (len(pictures), error) == (8, "torn.avi: cut off: its last frame is incomplete")


CODECS = [
    ("clip.mkv", "mpeg4"),
    ("clip.mkv", "libx264"),
    ("clip.ts", "mpeg2video"),
    ("clip.ts", "libx264"),
    ("clip.h264", "libx264"),
    ("clip.avi", "mpeg4"),
    ("clip.mp4", "mpeg4"),
]


def write_big_frames(path: Path, codec: str) -> Path:
    """Each frame takes thousands of bytes, whatever the encoder does with it."""
    return write_clip(path, [noise(n, 160, 120) for n in range(20)], codec)


@pytest.mark.parametrize(("name", "codec"), CODECS)
def test_damage_within_a_frame_is_reported(tmp_path: Path, name: str, codec: str) -> None:
    path = write_big_frames(tmp_path / name, codec)
    assert play(path)[1] == ""
    data = bytearray(path.read_bytes())
    frame = frame_span(path, 10)
    damage = slice(frame.start + 8, (frame.start + frame.stop) // 2)
    data[damage] = b"\1" * len(data[damage])  # no run of zeros, which a start code could follow
    path.write_bytes(data)
    pictures, error = play(path)
    assert len(pictures) >= 18
    assert "damaged" in error or "cut off" in error


@pytest.mark.parametrize(("name", "codec"), CODECS[:5])  # the two others say how many frames they hold
def test_cut_within_a_frame_is_reported(tmp_path: Path, name: str, codec: str) -> None:
    path = write_big_frames(tmp_path / name, codec)
    frame = frame_span(path, 10)
    os.truncate(path, (frame.start + frame.stop) // 2)
    pictures, error = play(path)
    assert 8 <= len(pictures) <= 12
    assert "damaged" in error or "cut off" in error


def test_bare_stream_cut_between_frames_plays_to_the_cut(tmp_path: Path) -> None:
    """It says nowhere how long it is: nothing tells the cut from its end."""
    path = write_big_frames(tmp_path / "clip.h264", "libx264")
    os.truncate(path, frame_span(path, 10).start)
    pictures, error = play(path)
    assert (len(pictures), error) == (10, "")


def test_a_disk_that_fails_is_told(tmp_path: Path) -> None:
    path = write_noise(tmp_path / "clip.mkv")
    spec = SourceSpec(str(path), "video", "clip.mkv")
    reader = VideoReader(open_file(spec, MAX_BYTES), spec, CaptureSettings(), MAX_BYTES)

    def failing() -> Iterator[None]:
        raise av.error.OSError(5, "Input/output error")
        yield

    assert reader.read() is not None
    reader._packets._demuxer.close()
    reader._packets._demuxer = failing()
    with pytest.raises(SourceFailed, match=r"clip\.mkv: it can't be read any further: Input/output error"):
        while reader.read() is not None:
            pass
    reader.close()


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "clip.mp4")
    with pytest.raises(UserError, match="not a file that can be read again"):
        open_source(tmp_path / "clip.mp4")


def test_a_trimmed_clip_is_not_called_cut_off(tmp_path: Path) -> None:
    """Trimming without encoding anew keeps frames that are decoded and, by the edit list, not shown."""
    whole = write_noise(tmp_path / "whole.mp4")
    trim(whole, tmp_path / "trimmed.mp4", frames=5)
    pictures, error = play(tmp_path / "trimmed.mp4")
    assert (len(pictures), error) == (35, "")


def test_a_colon_in_the_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_noise(tmp_path / "clip.mp4", frames=3).rename(tmp_path / "12:30.mp4")
    monkeypatch.chdir(tmp_path)
    pictures, error = play("12:30.mp4")
    assert (len(pictures), error) == (3, "")


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi"])
def test_a_damaged_middle_is_read_past_and_told(tmp_path: Path, name: str) -> None:
    path = write_noise(tmp_path / name)
    data = bytearray(path.read_bytes())
    damage = slice(frame_span(path, 18).start, frame_span(path, 22).stop)
    data[damage] = bytes(byte ^ 0x5A for byte in data[damage])
    path.write_bytes(data)
    pictures, error = play(path)
    assert pictures[-1].time_s > 1.2  # of 1.6: it went on behind the damage
    assert len(pictures) < 39
    assert f"{40 - len(pictures)} of 40 frames are missing" in error


@pytest.mark.parametrize("name", ["notes.txt", "renamed.mp4"])
def test_a_text_is_no_video(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("These are words, and no video.\n" * 200)
    with pytest.raises(UserError, match=r"no video in it|not a video") as told:
        open_source(path)
    assert "\n" not in str(told.value)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    import wave

    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16000))
    with pytest.raises(UserError, match="no video in it"):
        open_source(path)


@pytest.mark.parametrize("size", [0, 1, 300])
def test_a_file_of_nothing(tmp_path: Path, size: int) -> None:
    path = tmp_path / "empty.mp4"
    path.write_bytes(bytes(size))
    with pytest.raises(UserError, match=r"empty\.mp4"):
        open_source(path)


def test_a_head_without_frames(tmp_path: Path) -> None:
    path = write_noise(tmp_path / "clip.mp4")
    head = path.read_bytes().index(b"mdat") + 4
    path.write_bytes(path.read_bytes()[:head])
    with pytest.raises(UserError, match="no frame of it can be decoded"):
        open_source(path)


@pytest.mark.parametrize("size", [(2, 2), (6, 4), (63, 47), (1, 1), (333, 5)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    path = write_clip(tmp_path / "odd.mkv", [noise(n, *size) for n in range(3)], "ffv1", "bgr0")
    pictures, error = play(path)
    assert error == ""
    for number, picture in enumerate(pictures):  # lossless: the pixels themselves come back
        assert np.array_equal(picture.image, noise(number, *size))  # type: ignore[arg-type]


def test_grey_video_has_three_equal_channels(tmp_path: Path) -> None:
    grey = np.repeat(noise(0, 64, 48)[:, :, :1], 3, axis=2)
    (picture,), error = play(write_clip(tmp_path / "grey.mkv", [grey], "ffv1", "gray"))
    assert error == ""
    assert picture.image is not None
    assert picture.image.shape == (48, 64, 3)
    assert np.ptp(picture.image, axis=2).max() == 0
    assert np.abs(picture.image.astype(int) - grey).max() <= 2


@pytest.mark.parametrize(
    ("matrix", "shape", "white"),
    [  # as a phone writes them: the picture is to be turned clockwise by so much
        pytest.param((ONE, 0, 0, 0, ONE, 0, 0, 0, UNIT), (48, 64), (0, 0), id="0"),
        pytest.param((0, ONE, 0, -ONE, 0, 0, 48 * ONE, 0, UNIT), (64, 48), (0, 1), id="90"),
        pytest.param((-ONE, 0, 0, 0, -ONE, 0, 64 * ONE, 48 * ONE, UNIT), (48, 64), (1, 1), id="180"),
        pytest.param((0, -ONE, 0, ONE, 0, 0, 0, 64 * ONE, UNIT), (64, 48), (1, 0), id="270"),
    ],
)
def test_a_phone_video_stands_upright(
    tmp_path: Path, matrix: tuple[int, ...], shape: tuple[int, int], white: tuple[int, int]
) -> None:
    path = write_clip(tmp_path / "phone.mp4", [corner(64, 48)] * 2)
    rotate(path, matrix)
    reader = open_source(path)
    picture = reader.read()
    reader.close()
    assert picture is not None
    assert picture.image is not None
    assert picture.image.shape == (*shape, 3)
    assert (reader.info.height, reader.info.width) == shape
    quarters = {
        (row, column): picture.image[row * -10 :, column * -10 :][:10, :10].mean()
        for row in (0, 1)
        for column in (0, 1)
    }
    assert max(quarters, key=lambda place: quarters[place]) == white


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("three_faces_walking.mp4", 41),
        ("one_face_expressions.mp4", 62),
        ("one_face_hand_over_mouth.mp4", 51),
        ("no_faces.mp4", 23),
        ("mosaic_small.avi", 33),
    ],
)
def test_real_clips_are_not_called_cut_off(shared: Path, name: str, frames: int) -> None:
    pictures, error = play(shared / "video" / name)
    assert (len(pictures), error) == (frames, "")
    times = [picture.time_s for picture in pictures]
    assert times == sorted(set(times))
