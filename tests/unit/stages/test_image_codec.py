"""Frames as JPEG: what arrives is looked at before it is decoded."""

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stages.image_codec import BadFrame, ImageReader, to_jpeg

SHAPE = (48, 64, 3)
READER = ImageReader(max_bytes=10**9)


def picture() -> NDArray[np.uint8]:
    """Soft colours (48, 64, 3), as a camera sees them."""
    noise = np.random.default_rng(7).integers(0, 256, SHAPE, np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (15, 15), 0), np.uint8)


JPEG = bytes(to_jpeg(picture(), 90))


def claiming(height: int, width: int) -> bytes:
    """The picture as JPEG whose header claims another size."""
    at = JPEG.index(b"\xff\xc0") + 5  # the frame header: marker, length, bits
    return JPEG[:at] + struct.pack(">HH", height, width) + JPEG[at + 4 :]


@pytest.fixture
def no_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("decoded before it was looked at")

    monkeypatch.setattr(cv2, "imdecode", refuse)


def test_raw_is_taken_as_it_is() -> None:
    image = picture()
    assert np.array_equal(READER.image(image.tobytes(), "raw", SHAPE), image)


def test_jpeg_is_nearly_the_same() -> None:
    image = READER.image(JPEG, "jpeg", SHAPE)
    assert image.shape == SHAPE and image.dtype == np.uint8
    assert np.abs(image.astype(int) - picture()).mean() < 3
    assert len(JPEG) < picture().nbytes / 3


def test_a_better_quality_takes_more_bytes() -> None:
    assert len(bytes(to_jpeg(picture(), 50))) < len(JPEG) < len(bytes(to_jpeg(picture(), 100)))


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize("size", [(16_384, 16_384), (65_535, 65_535), (48, 63), (0, 0)])
def test_another_size_than_announced_is_refused_before_decoding(size: tuple[int, int]) -> None:
    with pytest.raises(BadFrame):
        READER.image(claiming(*size), "jpeg", SHAPE)


@pytest.mark.usefixtures("no_decoder")
def test_a_picture_larger_than_a_raw_one_could_be_is_refused_before_decoding() -> None:
    shape = (16_384, 16_384, 3)
    with pytest.raises(BadFrame, match=r"16384×16384 px: larger than broker\.max_message_bytes"):
        ImageReader(max_bytes=128 * 2**20).image(claiming(16_384, 16_384), "jpeg", shape)


@pytest.mark.usefixtures("no_decoder")
@pytest.mark.parametrize("data", [b"x", JPEG[:2], b"\x89PNG\r\n\x1a\n" + JPEG, JPEG[:300], JPEG[:-2]])
def test_what_is_no_whole_jpeg_is_refused_before_decoding(data: bytes) -> None:
    with pytest.raises(BadFrame, match=r"^JPEG"):
        READER.image(data, "jpeg", SHAPE)


def test_a_jpeg_that_cannot_be_decoded_is_refused() -> None:
    at = JPEG.index(b"\xff\xc4") + 5  # a Huffman table: more codes of one bit than there are
    with pytest.raises(BadFrame, match="broken"):
        READER.image(JPEG[:at] + b"\xff" * 4 + JPEG[at + 4 :], "jpeg", SHAPE)


def test_a_turned_picture_is_not_turned_back() -> None:
    """Metadata do not change the shape that was announced."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    turned = JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + JPEG[2:]
    assert READER.image(turned, "jpeg", SHAPE).shape == SHAPE


@given(st.data())
def test_a_damaged_jpeg_is_a_picture_or_refused(data: st.DataObject) -> None:
    damaged = bytearray(JPEG)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = READER.image(bytes(damaged), "jpeg", SHAPE)
    except BadFrame:
        return
    assert image.shape == SHAPE
