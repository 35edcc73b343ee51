"""Pictures and videos that claim to be huge: refused before there is room made for them."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.common.errors import UserError
from pipeline.common.files import PROJECT
from stages.capture.sources.images import read_picture
from tests.support.media import noise, open_source, play, write_clip

MB = 1 << 20
SPARE_MB = 60
"""What a reader may take for anything but the picture. Each bomb would take 190 MB and more."""

MEASURE = """
import json, resource, sys
from pathlib import Path
from stages.capture.reader import SourceFailed
from pipeline.common.errors import UserError
from tests.support.media import play

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

play(sys.argv[1])
before = peak_mb()
try:
    told = [picture.reason for picture in play(sys.argv[2])[0]]
except UserError as error:
    told = str(error)
print(json.dumps([peak_mb() - before, told]))
"""


def peak_mb(harmless: Path, bomb: Path) -> float:
    """By how much the memory of a process grows at most that reads a harmless source, then the bomb."""
    command = [sys.executable, "-c", MEASURE, str(harmless), str(bomb)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True)
    return float(done.stdout.split(",")[0].lstrip("["))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *, whole: bool = False) -> bytes:
    """Black or white: the claim alone, or all of it, which is small."""
    rows = zlib.compress(bytes((1 + (width + 7) // 8) * height) if whole else b"")
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpg(width: int, height: int) -> bytes:
    """A small picture whose frame header lies."""
    data = bytearray(cv2.imencode(".jpg", noise(0, 64, 48))[1].tobytes())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def bmp(width: int, height: int) -> bytes:
    data = bytearray(cv2.imencode(".bmp", noise(0, 64, 48))[1].tobytes())
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def webp(width: int, height: int) -> bytes:
    """An extended file whose canvas is far larger than its picture."""
    simple = cv2.imencode(".webp", noise(0, 64, 48))[1].tobytes()[12:]
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sizes + simple
    return b"RIFF" + struct.pack("<I", len(body)) + body


WHOLE_WEBP = bytes.fromhex("524946461a000000574542505650384c0e0000002f3fdfdb05071011fd0f4444ff03")
"""Black, 8000×6000 px, without loss."""

CLAIMS = {
    "side.png": png(60_000, 60_000),
    "pixels.png": png(16_000, 16_000),
    "whole.png": png(16_000, 16_000, whole=True),
    "chunk.png": png(64, 48).replace(struct.pack(">I", 8) + b"IDAT", struct.pack(">I", 0xD1000020) + b"IDAT"),
    "side.jpg": jpg(65_000, 65_000),
    "pixels.jpg": jpg(16_000, 16_000),
    "side.bmp": bmp(60_000, 60_000),
    "upside-down.bmp": bmp(60_000, -60_000),
    "pixels.bmp": bmp(16_000, 16_000),
    "side.webp": webp(60_000, 60_000),
    "pixels.webp": webp(16_000, 16_000),
    "whole.webp": WHOLE_WEBP,
}


DAMAGED = ("chunk.png", "side.webp", "pixels.webp")
"""These contradict themselves, which is seen before their size is."""


@pytest.mark.parametrize("name", CLAIMS)
def test_a_picture_that_claims_too_much_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(CLAIMS[name])
    image, reason = read_picture(path)
    assert image is None
    assert reason.startswith("unreadable: ")
    if name not in DAMAGED:
        assert "16384 is the limit" in reason or "larger than broker.max_message_bytes" in reason


def test_the_limit_is_that_of_the_messages(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert cv2.imwrite(str(path), noise(0, 8, 6))
    assert read_picture(path, 3 * 8 * 6)[1] == ""
    assert (
        read_picture(path, 3 * 8 * 6 - 1)[1] == "unreadable: 8×6 px are larger than broker.max_message_bytes"
    )


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_headers_that_end_or_lie_are_told(tmp_path: Path, suffix: str) -> None:
    whole = cv2.imencode(suffix, noise(0, 64, 48))[1].tobytes()
    path = tmp_path / f"a{suffix}"
    random = np.random.default_rng(1)
    for length in range(0, min(200, len(whole)), 3):
        path.write_bytes(whole[:length])
        image, reason = read_picture(path)
        assert image is None or suffix == ".bmp"
        for _ in range(4):  # bytes of the header, changed
            lies = bytearray(whole)
            lies[random.integers(2, 60)] = random.integers(0, 256)
            path.write_bytes(lies)
            image, reason = read_picture(path)
            assert (image is None) == reason.startswith("unreadable: ")


def test_text_in_a_picture_is_no_bomb(tmp_path: Path) -> None:
    """Compressed text unpacks to gigabytes, if it is unpacked."""
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(64 * MB)))
    whole = cv2.imencode(".png", noise(0, 8, 6))[1].tobytes()
    path = tmp_path / "a.png"
    path.write_bytes(whole[:33] + text + whole[33:])
    image, reason = read_picture(path)
    assert image is None
    assert reason == "unreadable: not a picture, or a damaged one"


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    path.write_bytes(bmp(64, 48))
    os.truncate(path, 10 << 30)  # full of holes
    assert read_picture(path) == (None, "unreadable: a file of more than 268435456 bytes")


def test_pipes_and_devices_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("zero.png", "pipe.png"):
        assert read_picture(tmp_path / name) == (None, "unreadable: not a file")


def test_a_part_that_claims_too_much_is_told(tmp_path: Path) -> None:
    """OpenCV would make room for all that a PNG's chunk claims, which are gigabytes here."""
    whole = bytearray(cv2.imencode(".png", noise(0, 64, 48))[1].tobytes())
    whole[33:37] = struct.pack(">I", 0xD1000020)
    path = tmp_path / "a.png"
    path.write_bytes(whole)
    assert read_picture(path) == (None, "unreadable: not a picture, or a damaged one")


def test_other_kinds_of_pictures_stay_unopened(tmp_path: Path) -> None:
    """OpenCV would decode the one, Pillow hand the other to Ghostscript, by their contents."""
    path = tmp_path / "a.png"
    path.write_bytes(cv2.imencode(".hdr", noise(0, 8, 6))[1].tobytes())
    assert read_picture(path)[0] is None
    Image.fromarray(noise(0, 8, 6)).save(path, "EPS")
    assert read_picture(path)[0] is None


@pytest.fixture
def growing(tmp_path: Path) -> Path:
    """A video of small pictures, with some of 192 MB in their midst."""
    small = cv2.imencode(".jpg", noise(0, 64, 48))[1].tobytes()
    large = cv2.imencode(".jpg", np.zeros((4_000, 16_000, 3), np.uint8))[1].tobytes()
    path = tmp_path / "growing.mjpeg"
    path.write_bytes(60 * small + 3 * large + 10 * small)
    return path


def test_a_video_that_grows_is_told_as_damaged(growing: Path) -> None:
    pictures, error = play(growing)
    assert {p.image.shape for p in pictures if p.image is not None} == {(48, 64, 3)}
    assert len(pictures) == 70
    assert error == "growing.mjpeg: damaged: 3 parts of it are broken or too large"


def claiming(tmp_path: Path, codec: str, pix_fmt: str) -> Path:
    path = write_clip(tmp_path / "clip.avi", [noise(n, 64, 48) for n in range(5)], codec, pix_fmt)
    data = bytearray(path.read_bytes())
    at = data.index(b"strf") + 12
    data[at : at + 8] = struct.pack("<ii", 60_000, 60_000)
    path.write_bytes(data)
    return path


def test_a_video_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it is too large"):
        open_source(claiming(tmp_path, "rawvideo", "bgr24"))


def test_what_a_container_claims_counts_for_nothing_where_the_video_says_better(tmp_path: Path) -> None:
    pictures, _ = play(claiming(tmp_path, "mpeg4", "yuv420p"))
    assert {p.image.shape for p in pictures if p.image is not None} == {(48, 64, 3)}


@pytest.mark.long
@pytest.mark.parametrize("name", CLAIMS)
def test_no_room_is_made_for_a_picture(tmp_path: Path, name: str) -> None:
    harmless, bomb = tmp_path / f"harmless{Path(name).suffix}", tmp_path / name
    assert cv2.imwrite(str(harmless), noise(0, 64, 48))
    bomb.write_bytes(CLAIMS[name])
    assert peak_mb(harmless, bomb) < SPARE_MB


@pytest.mark.long
def test_no_room_is_made_for_a_huge_file(tmp_path: Path) -> None:
    harmless, bomb = tmp_path / "harmless.bmp", tmp_path / "huge.bmp"
    for path in (harmless, bomb):
        path.write_bytes(bmp(64, 48))
    os.truncate(bomb, 10 << 30)
    assert peak_mb(harmless, bomb) < SPARE_MB


@pytest.mark.long
def test_no_room_is_made_for_a_picture_of_a_video(tmp_path: Path, growing: Path) -> None:
    harmless = tmp_path / "harmless.mjpeg"
    buffer = io.BytesIO()
    Image.fromarray(noise(0, 64, 48)).save(buffer, "JPEG")
    harmless.write_bytes(60 * buffer.getvalue())
    assert peak_mb(harmless, growing) < SPARE_MB
