"""The fuzzed functions. Each takes bytes and returns; an exception is a finding."""

import contextlib
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from pipeline.common.errors import UserError
from pipeline.wire.codec import decode, encode
from pipeline.wire.messages import MessageError
from stages.onnx_model import open_session
from tests.support.hostile_peers import besiege

MAX_TURNS: Final = 300


def decoder(data: bytes) -> None:
    """Decode a message; a valid one must be the same after encoding and decoding it again."""
    with contextlib.suppress(MessageError):
        message, buffers = decode(split(data))
        assert decode(encode(message, buffers)) == (message, buffers)


def split(data: bytes) -> list[bytes]:
    """The parts of a message: each after its length in two bytes, the last one without."""
    parts = []
    while len(data) >= 2:
        (length,) = struct.unpack(">H", data[:2])
        parts.append(data[2 : 2 + length])
        data = data[2 + length :]
    return parts


def join(parts: Sequence[Any]) -> bytes:
    """The inverse of `split`."""
    return b"".join(struct.pack(">H", len(part)) + bytes(part) for part in parts)


class Given:
    """Choices taken from bytes, one after another; all zeros after their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, least: int, most: int) -> int:
        return least + int.from_bytes(self.data(1 if most - least < 256 else 4)) % (most - least + 1)

    def data(self, length: int) -> bytes:
        taken = self._data[self._at : self._at + length]
        self._at += length
        return taken.ljust(length, b"\0")


def siege(data: bytes) -> None:
    besiege(Given(data), min(MAX_TURNS, len(data) // 8))


def onnx(data: bytes) -> None:
    """A file is a network that ONNX Runtime loads, or a UserError of one line."""
    try:
        open_session(Path("stranger.onnx"), data, 1, "classify.model")
    except UserError as error:
        assert str(error).isprintable()


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {"decoder": decoder, "siege": siege, "onnx": onnx}
