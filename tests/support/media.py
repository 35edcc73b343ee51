"""Small clips and pictures, made as the tests need them."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from pipeline.config.sources import parse_sources
from pipeline.wire.messages import SourceInfo
from stages.capture.reader import Reader, SourceFailed, TimedFrame, open_reader
from stages.capture.spec import CaptureSettings

SOUND_RATE = 44_100
ONE, UNIT = 1 << 16, 1 << 30  # 1 in the two fixed-point formats of an mp4's matrix


def noise(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """A picture that compresses badly, so that a clip's bytes spread evenly over its frames."""
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


def corner(width: int, height: int) -> NDArray[np.uint8]:
    """Black, with the upper left quarter white."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = 255
    return image


def write_clip(
    path: Path,
    images: list[NDArray[np.uint8]],
    codec: str = "mpeg4",
    pix_fmt: str = "yuv420p",
    **options: str,
) -> Path:
    height, width = images[0].shape[:2]
    with av.open(str(path), "w", options=options) as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24")))
        container.mux(stream.encode())
    return path


def write_noise(path: Path, frames: int = 40) -> Path:
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    return write_clip(path, [noise(n, 64, 48) for n in range(frames)], **options)


def write_film(
    path: Path,
    videos: Sequence[Sequence[NDArray[np.uint8]]],
    *,
    times: Sequence[float] = (),
    sound_s: float = 0.0,
    cover: bool = False,
    marked: int | None = None,
    pixel_ratio: int | Fraction = 1,
) -> Path:
    """Write a container with several videos, with sound or a cover.

    times: of the frames, s; else 25 a second. marked: the video that is marked as default, the others not.
    """
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        streams: list[Any] = []
        for number, images in enumerate(videos):
            codec = "mpeg4" if path.suffix != ".flv" else "flv"
            stream: Any = container.add_stream("libx264" if pixel_ratio != 1 else codec, rate=25)
            stream.height, stream.width = images[0].shape[:2]
            stream.codec_context.sample_aspect_ratio = pixel_ratio
            if marked is not None:
                stream.disposition = Disposition.default if number == marked else Disposition(0)
            streams.append(stream)
        sound: Any = container.add_stream("aac", rate=SOUND_RATE, layout="mono") if sound_s else None
        picture: Any = container.add_stream("mjpeg", rate=25) if cover else None
        if cover:
            picture.width, picture.height, picture.pix_fmt = 32, 32, "yuvj420p"
            picture.disposition = Disposition.attached_pic
            container.mux(picture.encode(av.VideoFrame.from_ndarray(noise(99, 32, 32), "bgr24")))
        clock = Fraction(1, 1000 if times and path.suffix != ".avi" else 25)
        for stream, images in zip(streams, videos, strict=True):
            stream.codec_context.time_base = clock
            for number, image in enumerate(images):
                frame = av.VideoFrame.from_ndarray(image, "bgr24")
                frame.pts = round((times[number] if times else number / 25) / clock)
                frame.time_base = clock
                container.mux(stream.encode(frame))
        for number in range(round(sound_s * SOUND_RATE / 1024)):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            silence.sample_rate, silence.pts = SOUND_RATE, 1024 * number
            container.mux(sound.encode(silence))
        for each in (*streams, sound, picture):
            if each is not None:
                container.mux(each.encode())
    return path


def cover_first(path: Path) -> None:
    """Move an mp4's description (udta), which holds its cover, before its video: players meet it first."""
    data = bytearray(path.read_bytes())
    start, end = data.index(b"trak") - 4, data.index(b"udta") - 4
    length = int.from_bytes(data[end : end + 4])
    data[start : end + length] = data[end : end + length] + data[start:end]
    path.write_bytes(data)


def rotate(path: Path, matrix: tuple[int, ...]) -> None:
    """Write the matrix of the picture's place into the mp4's track header."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)


def trim(path: Path, trimmed: Path, frames: int) -> None:
    """Copy an mp4 so that it starts some frames later: an edit list leaves these out."""
    with av.open(str(path)) as source, av.open(str(trimmed), "w") as target:
        shown: Any = source.streams.video[0]
        stream: Any = target.add_stream_from_template(shown)
        later = round(frames / shown.average_rate / shown.time_base)
        for packet in source.demux(shown):
            if packet.dts is not None and packet.pts is not None:
                packet.pts, packet.dts = packet.pts - later, packet.dts - later
                packet.stream = stream
                target.mux(packet)


def frame_span(path: Path, number: int) -> slice:
    """The bytes of a file from the first to the last of one encoded frame, counted as they are stored.

    A transport stream has headers of its own within them, and its last bytes may lie behind them.
    """
    with av.open(str(path)) as container:
        packets = (packet for packet in container.demux(container.streams.video[0]) if packet.size)
        frame = bytes(next(islice(packets, number, None)))
    start = path.read_bytes().index(frame[:64])
    return slice(start, start + len(frame))


def cut(path: Path, share: float) -> Path:
    """The first part of a file."""
    data = path.read_bytes()
    short = path.with_name(f"cut-{path.name}")
    short.write_bytes(data[: int(len(data) * share)])
    return short


def open_source(text: str | Path, **settings: Any) -> Reader:
    (spec,) = parse_sources([str(text)])
    return open_reader(spec, CaptureSettings(**settings))


def play(text: str | Path, **settings: Any) -> tuple[list[TimedFrame], str]:
    """All pictures of a source, and how it failed, if it did."""
    reader = open_source(text, **settings)
    pictures: list[TimedFrame] = []
    try:
        while (picture := reader.read()) is not None:
            pictures.append(picture)
    except SourceFailed as error:
        return pictures, str(error)
    finally:
        reader.close()
    return pictures, ""


class ListReader:
    """Gives pictures from a list; an exception in it is raised."""

    def __init__(
        self, pictures: list[TimedFrame | Exception | None], kind: Any = "file", fps: float = 25
    ) -> None:
        self.info = SourceInfo("clip", kind, 4, 2, fps)
        self.left = list(pictures)
        self.closed = False

    def read(self) -> TimedFrame | None:
        picture = self.left.pop(0) if self.left else None
        if isinstance(picture, Exception):
            raise picture
        return picture

    def close(self) -> None:
        self.closed = True


def pictures(count: int, start: int = 0) -> list[Any]:
    """Tiny ones, each of its number's grey."""
    return [TimedFrame(np.full((2, 4, 3), n % 256, np.uint8), n / 25) for n in range(start, start + count)]
