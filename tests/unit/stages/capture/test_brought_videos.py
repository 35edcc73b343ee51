"""Videos as people bring them: covers, several videos, odd pixels, turned, long sound, their own times."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.common.errors import UserError
from pipeline.wire.assignment import STDIN_VARIABLE
from stages.capture import reader
from tests.support.media import (
    ONE,
    UNIT,
    corner,
    cover_first,
    cut,
    noise,
    open_source,
    play,
    rotate,
    trim,
    write_clip,
    write_film,
)

CLIP = [noise(n, 64, 48) for n in range(10)]
SMALL = [noise(n, 32, 24) for n in range(10)]


@pytest.fixture(autouse=True)
def _nothing_said_before() -> None:
    reader.say_once.cache_clear()


def shape(text: str | Path) -> tuple[int, ...]:
    image = play(text)[0][0].image
    assert image is not None
    return image.shape[:2]


# ------------------------------------------------------------------------------------------ which video


@pytest.mark.parametrize("name", ["film.mp4", "first.mp4"])
def test_a_cover_is_no_video(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    path = write_film(tmp_path / name, [CLIP], cover=True)
    if name == "first.mp4":
        cover_first(path)
    pictures, error = play(path)
    assert (len(pictures), error, shape(path)) == (10, "", (48, 64))
    assert not caplog.records


def test_sound_with_a_cover_is_no_video(tmp_path: Path) -> None:
    path = write_film(tmp_path / "song.mp4", [], sound_s=1, cover=True)
    with pytest.raises(UserError, match=r"song\.mp4'?: no video in it; its only picture is a cover"):
        open_source(path)


def test_of_several_videos_one_is_played_and_the_choice_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_film(tmp_path / "film.mkv", [SMALL, CLIP])
    with caplog.at_level("INFO"):
        pictures, error = play(path, repeat=2)
    assert (len(pictures), error, shape(path)) == (20, "", (48, 64))  # the larger one
    (record,) = caplog.records
    assert record.message == (
        "film.mkv: 2 videos: #0 32×24 mpeg4, #1 64×48 mpeg4; #1 is played, film.mkv#0 would be another"
    )


@pytest.mark.parametrize(("marked", "expected"), [(0, (24, 32)), (1, (48, 64))])
def test_the_default_video_is_played(tmp_path: Path, marked: int, expected: tuple[int, int]) -> None:
    assert shape(write_film(tmp_path / "film.mkv", [SMALL, CLIP], marked=marked)) == expected


@pytest.mark.parametrize("name", ["film.mkv", "film.mp4"])
def test_a_number_chooses_a_video(tmp_path: Path, name: str) -> None:
    path = write_film(tmp_path / name, [CLIP, SMALL])
    assert (shape(f"{path}#0"), shape(f"{path}#1")) == ((48, 64), (24, 32))
    assert open_source(f"{path}#1").info.name == f"{name}#1"
    assert len(play(f"{path}#1")[0]) == 10
    with pytest.raises(UserError, match="no video #2 in it; it has #0 64×48 mpeg4, #1 32×24 mpeg4"):
        open_source(f"{path}#2")


# -------------------------------------------------------------------------------------- pixels and sides


@pytest.mark.parametrize(("ratio", "expected"), [(1, (48, 64)), (2, (48, 128)), (3, (48, 192))])
def test_pixels_become_square(tmp_path: Path, ratio: int, expected: tuple[int, int]) -> None:
    path = write_film(tmp_path / "clip.mkv", [[corner(64, 48)] * 2], pixel_ratio=ratio)
    reader = open_source(path)
    assert (reader.info.height, reader.info.width) == expected
    image = play(path)[0][0].image
    assert image is not None and image.shape == (*expected, 3)
    height, width = expected
    assert image[: height // 2 - 8, : width // 2 - 8].mean() > 235
    assert image[:, width // 2 + 8 :].mean() < 20


def test_tall_pixels_make_the_picture_higher(tmp_path: Path) -> None:
    path = write_film(tmp_path / "clip.mkv", [[corner(72, 48)] * 2], pixel_ratio=Fraction(8, 9))
    assert shape(path) == (54, 72)


def test_pixels_that_would_make_too_large_a_picture_are_refused(tmp_path: Path) -> None:
    path = write_film(tmp_path / "wide.mkv", [[corner(1200, 48)] * 2], pixel_ratio=16)
    with pytest.raises(UserError, match="19200×48 px, 16384 is the limit"):
        open_source(path)


A, B = 64 * ONE, 48 * ONE
ORIENTATIONS = [  # EXIF's number, the matrix, and what NumPy makes of the picture as it is stored
    pytest.param((ONE, 0, 0, 0, ONE, 0, 0, 0, UNIT), lambda p: p, id="1"),
    pytest.param((-ONE, 0, 0, 0, ONE, 0, A, 0, UNIT), lambda p: p[:, ::-1], id="2"),
    pytest.param((-ONE, 0, 0, 0, -ONE, 0, A, B, UNIT), lambda p: p[::-1, ::-1], id="3"),
    pytest.param((ONE, 0, 0, 0, -ONE, 0, 0, B, UNIT), lambda p: p[::-1], id="4"),
    pytest.param((0, ONE, 0, ONE, 0, 0, 0, 0, UNIT), lambda p: p.transpose(1, 0, 2), id="5"),
    pytest.param((0, ONE, 0, -ONE, 0, 0, B, 0, UNIT), lambda p: np.rot90(p, -1), id="6"),
    pytest.param((0, -ONE, 0, -ONE, 0, 0, B, A, UNIT), lambda p: np.rot90(p, -1)[::-1], id="7"),
    pytest.param((0, -ONE, 0, ONE, 0, 0, 0, A, UNIT), lambda p: np.rot90(p), id="8"),
]


@pytest.mark.parametrize(("matrix", "shown"), ORIENTATIONS)
def test_all_eight_orientations(tmp_path: Path, matrix: tuple[int, ...], shown: object) -> None:
    picture = gradient()
    path = write_clip(tmp_path / "phone.mp4", [picture] * 2)
    rotate(path, matrix)
    image = play(path)[0][0].image
    expected = shown(picture)  # type: ignore[operator]
    assert image is not None and image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 6


def gradient() -> NDArray[np.uint8]:
    """A picture (48, 64, 3) that looks different in each of its eight orientations."""
    image = np.zeros((48, 64, 3), np.uint8)
    image += np.linspace(0, 120, 64).astype(np.uint8)[None, :, None]
    image += np.linspace(0, 60, 48).astype(np.uint8)[:, None, None]
    return image


# ---------------------------------------------------------------------------------------- ends and times


@pytest.mark.parametrize("name", ["film.flv", "film.ts", "film.mkv", "film.mp4", "film.avi"])
def test_sound_that_goes_on_is_no_picture_that_is_missing(tmp_path: Path, name: str) -> None:
    pictures, error = play(write_sounding(tmp_path / name, 3.0))
    assert (len(pictures), error) == (10, "")


@pytest.mark.parametrize("name", ["film.flv", "film.mkv"])
def test_a_film_with_sound_that_is_cut_off_is_told(tmp_path: Path, name: str) -> None:
    path = write_clip_with_sound(tmp_path / name)
    pictures, error = play(cut(path, 0.5))
    assert 0 < len(pictures) < 75
    assert "cut off" in error and "missing" in error


def write_sounding(path: Path, sound_s: float) -> Path:
    return write_film(path, [CLIP], sound_s=sound_s)


def write_clip_with_sound(path: Path) -> Path:
    return write_film(path, [[noise(n, 64, 48) for n in range(75)]], sound_s=3.0)


def test_frames_that_a_recorder_dropped_are_not_missing(tmp_path: Path) -> None:
    """An AVI has a place for each, and counts it."""
    times = [n / 25 for n in (0, 1, 2, 10, 11, 12, 13, 40, 41, 60)]
    pictures, error = play(write_film(tmp_path / "clip.avi", [CLIP], times=times))
    assert error == ""
    assert [p.time_s for p in pictures] == pytest.approx(times, abs=0.001)
    assert "cut off" in play(cut(tmp_path / "clip.avi", 0.7))[1]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_a_rate_that_varies(tmp_path: Path, name: str) -> None:
    times = [0.0, 0.04, 0.3, 0.31, 1.0, 1.5, 1.54, 2.75, 2.8, 4.0]
    pictures, error = play(write_film(tmp_path / name, [CLIP], times=times))
    assert error == ""
    assert [p.time_s for p in pictures] == pytest.approx(times, abs=0.0011)


@pytest.mark.parametrize("name", ["clip.mkv", "clip.ts", "clip.mp4"])
def test_a_clip_that_starts_late_by_its_own_clock_begins_at_0(tmp_path: Path, name: str) -> None:
    times = [10 + n / 25 for n in range(10)]
    pictures, error = play(write_film(tmp_path / name, [CLIP], times=times))
    assert error == ""
    assert [p.time_s for p in pictures] == pytest.approx([n / 25 for n in range(10)], abs=0.0011)


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4"])
def test_pictures_that_begin_behind_the_sound_keep_their_place(tmp_path: Path, name: str) -> None:
    times = [1 + n / 25 for n in range(10)]
    pictures, error = play(write_film(tmp_path / name, [CLIP], times=times, sound_s=2))
    assert error == ""
    assert [p.time_s for p in pictures] == pytest.approx(times, abs=0.03)


def test_what_an_edit_list_leaves_out_takes_no_time(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mp4", [noise(n, 64, 48) for n in range(40)])
    trim(whole, tmp_path / "trimmed.mp4", frames=5)
    pictures, error = play(tmp_path / "trimmed.mp4")
    assert error == ""
    assert [p.time_s for p in pictures] == pytest.approx([n / 25 for n in range(35)], abs=0.001)


# ------------------------------------------------------------------------------------- start and duration


@pytest.fixture(scope="module")
def long_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same 30 s in several containers: frame n has the time n / 10."""
    folder = tmp_path_factory.mktemp("long")
    images = [noise(n, 64, 48) for n in range(300)]
    for name in ("clip.mp4", "clip.mkv", "clip.ts"):
        write_film(folder / name, [images], times=[n / 10 for n in range(300)])
    return folder


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_start_and_duration(long_clips: Path, name: str) -> None:
    pictures, error = play(long_clips / name, start_s=21.0, duration_s=0.5)
    assert error == ""
    assert [p.time_s for p in pictures] == pytest.approx([21.0, 21.1, 21.2, 21.3, 21.4], abs=0.0011)
    whole, _ = play(long_clips / name)
    for picture, expected in zip(pictures, whole[210:215], strict=True):
        assert np.array_equal(picture.image, expected.image)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_start_alone_reads_to_the_end_and_is_not_cut_off(long_clips: Path, name: str) -> None:
    pictures, error = play(long_clips / name, start_s=25)
    assert (len(pictures), error) == (50, "")


def test_a_cut_off_clip_is_told_from_a_later_start_too(long_clips: Path, tmp_path: Path) -> None:
    short = tmp_path / "clip.mkv"
    whole = (long_clips / "clip.mkv").read_bytes()
    short.write_bytes(whole[: int(0.8 * len(whole))])
    _, error = play(short, start_s=12)
    assert "cut off" in error


def test_a_start_behind_the_end(long_clips: Path) -> None:
    with pytest.raises(UserError, match=r"it ends after 29\.9 s, before --start 100"):
        open_source(long_clips / "clip.mp4", start_s=100)


def test_repeats_of_a_part(long_clips: Path) -> None:
    pictures, _ = play(long_clips / "clip.mp4", start_s=20, duration_s=0.3, repeat=2)
    assert len(pictures) == 6
    assert [p.time_s for p in pictures[:3]] == pytest.approx([20, 20.1, 20.2], abs=0.001)
    assert [p.time_s for p in pictures] == sorted(p.time_s for p in pictures)


def test_start_and_duration_of_the_demo() -> None:
    pictures, _ = play("demo:1", start_s=2, duration_s=0.2)
    assert [p.time_s for p in pictures] == pytest.approx([2.0, 2.04, 2.08, 2.12, 2.16])
    with pytest.raises(UserError, match="it ends after 12 s"):
        open_source("demo", start_s=12)


# ------------------------------------------------------------------------------------------- named errors


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (b"PK\3\4" + bytes(60), "a zip archive"),
        (b"\x1f\x8b" + bytes(60), "a gzip archive"),
        (b"%PDF-1.7" + bytes(60), "a PDF document"),
        (b"\x89HDF\r\n\x1a\n" + bytes(60), "an HDF5 file"),
        (b"\0\0\0\x18ftypheic" + bytes(60), "a HEIC picture"),
    ],
)
def test_what_is_no_video_is_named_for_what_it_is(tmp_path: Path, head: bytes, told: str) -> None:
    path = tmp_path / "brought.bin"
    path.write_bytes(head)
    with pytest.raises(UserError, match=rf"brought\.bin'?: {told}.*; a video file is expected"):
        open_source(path)


# ------------------------------------------------------------------------------------ playlists, moving GIF


def test_a_playlist_that_is_over_is_a_file(tmp_path: Path) -> None:
    path = write_hls(tmp_path)
    pictures, error = play(path)
    assert (len(pictures), error) == (40, "")
    assert [p.time_s for p in pictures] == pytest.approx([n / 25 for n in range(40)], abs=0.002)
    path.write_text(path.read_text().replace("#EXT-X-ENDLIST", ""))
    with pytest.raises(UserError, match="a playlist that is still being written; give its http:// address"):
        open_source(path)


def test_a_playlist_by_another_name_opens_nothing(tmp_path: Path) -> None:
    path = write_hls(tmp_path)
    path.rename(tmp_path / "clip.mp4")
    with pytest.raises(UserError, match=r"no video in it|not a video"):
        open_source(tmp_path / "clip.mp4")


def write_hls(folder: Path) -> Path:
    images = [noise(n, 64, 48) for n in range(40)]
    return write_clip(folder / "clip.m3u8", images, "libx264", hls_time="0.4", hls_list_size="0")


def test_a_moving_gif_is_a_video(tmp_path: Path) -> None:
    from PIL import Image

    frames = [Image.fromarray(np.full((48, 64, 3), 40 * n, np.uint8)) for n in range(5)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    pictures, error = play(tmp_path / "a.gif")
    assert error == ""
    assert [p.time_s for p in pictures] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


# --------------------------------------------------------------------------------------- standard input


def give(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Give a file as standard input, as run.py does to the first capture process; return its number."""
    number = os.open(path, os.O_RDONLY)
    monkeypatch.setenv(STDIN_VARIABLE, str(number))
    return number


def test_standard_input_from_a_file_with_its_index_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = give(write_clip(tmp_path / "clip.mp4", CLIP), monkeypatch)
    pictures, error = play("-")
    assert (len(pictures), error) == (len(CLIP), "")
    os.close(number)
    with pytest.raises(UserError, match="standard input can be read only once"):
        open_source("-")


def test_standard_input_without_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("this is no video\n" * 100)
    number = give(path, monkeypatch)
    with pytest.raises(UserError, match="source '-': what comes on standard input can't be read as a video"):
        open_source("-")
    os.close(number)


# ------------------------------------------------------------------------------ reports that came later


def test_an_avi_numbers_its_frames_in_the_order_of_decoding(tmp_path: Path) -> None:
    """With B-frames that is another one than that of showing."""
    images = [np.full((48, 64, 3), 4 * n, np.uint8) for n in range(40)]
    path = write_clip(tmp_path / "clip.avi", images, "libx264", bf="3", b_adapt="0")
    for threads in (1, 4):
        pictures, error = play(path, threads=threads)
        assert error == ""
        assert [p.time_s for p in pictures] == pytest.approx([n / 25 for n in range(40)])
    assert [p.time_s for p in play(path, start_s=1)[0]] == pytest.approx([n / 25 for n in range(25, 40)])


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi"])
def test_fewer_frames_a_second(tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / name, [noise(n, 64, 48) for n in range(60)])
    pictures, error = play(path, sample_fps=5)
    assert error == ""
    assert [p.time_s for p in pictures] == pytest.approx([n / 5 for n in range(12)], abs=0.001)
    info = open_source(path, sample_fps=5).info
    assert (info.fps, info.frames) == (5, 12)
    pictures, _ = play(path, sample_fps=5, start_s=1, duration_s=0.6, repeat=2)
    assert [p.time_s for p in pictures] == pytest.approx([1, 1.2, 1.4, 1.6, 1.8, 2.0], abs=0.05)
    assert len(play(path, sample_fps=100)[0]) == 60


@pytest.mark.parametrize("name", ["clip.h264", "clip.flv", "clip.ts", "clip.mpg", "clip.nut"])
def test_a_start_in_a_format_without_an_index(tmp_path: Path, name: str) -> None:
    codec = {"mpg": "mpeg2video"}.get(name.partition(".")[2], "libx264")
    path = write_clip(tmp_path / name, [noise(n, 64, 48) for n in range(40)], codec)
    pictures, error = play(path, start_s=1)
    assert (len(pictures), error) == (15, "")
    assert pictures[0].time_s == pytest.approx(1.0, abs=0.001)


def test_what_a_browser_records(tmp_path: Path) -> None:
    """A .webm without a duration whose clock has 1000 places a second."""
    times = [0.0, 0.033, 0.067, 0.133, 0.166, 0.206, 0.239, 0.305, 0.338, 0.378]
    path = tmp_path / "clip.webm"
    with av.open(str(path), "w", options={"live": "1"}) as container:
        stream: Any = container.add_stream("libvpx", rate=1000, options={"deadline": "realtime"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for time_s, image in zip(times, CLIP, strict=True):
            frame = av.VideoFrame.from_ndarray(image, "bgr24")
            frame.pts, frame.time_base = round(1000 * time_s), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    pictures, error = play(path)
    assert error == ""
    assert [p.time_s for p in pictures] == pytest.approx(times, abs=0.0011)


def test_a_call_whose_picture_changes_its_size(tmp_path: Path) -> None:
    """Recorders of calls write what comes, larger or smaller: each frame has its own size."""
    path = tmp_path / "call.webm"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for part, (width, height) in enumerate([(64, 48), (32, 24), (128, 96)]):
            encoder = av.CodecContext.create("libvpx", "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
            encoder.time_base = Fraction(1, 25)
            packets = []
            for number in range(5):
                frame = av.VideoFrame.from_ndarray(noise(number, width, height), "bgr24")
                frame.pts, frame.time_base = 5 * part + number, Fraction(1, 25)
                packets += encoder.encode(frame)
            for packet in [*packets, *encoder.encode()]:
                packet.stream = stream
                container.mux(packet)
    pictures, error = play(path)
    assert error == ""
    heights = [p.image.shape[0] for p in pictures if p.image is not None]
    assert heights == [48] * 5 + [24] * 5 + [96] * 5


def test_damage_in_the_middle_is_told_and_the_rest_is_played(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", [noise(n, 64, 48) for n in range(60)], "libx264", g="5")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20_000] = np.random.default_rng(1).bytes(20_000)
    path.write_bytes(data)
    pictures, error = play(path)
    assert 40 < len(pictures) <= 60 and pictures[-1].time_s == pytest.approx(59 / 25)
    assert "damaged" in error
