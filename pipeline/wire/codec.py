"""`encode` makes the parts of a multipart ZeroMQ message; `decode`, its inverse, checks them strictly.

`pack` and `unpack` do the same for arrays.
"""

import functools
import math
import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pipeline.wire.messages import (
    MAX_HEADER_BYTES,
    MAX_PARTS,
    MAX_RECORD_BYTES,
    MAX_RECORDS,
    PROTOCOL,
    AnyHello,
    Array,
    Buffer,
    Commit,
    Delivery,
    Encoding,
    Frame,
    Hello,
    Message,
    MessageError,
    Result,
    Work,
)

if TYPE_CHECKING:  # the supervisor, which sees no arrays, does not load it
    from numpy.typing import NDArray

JPEG_OVERHEAD: Final = 4096
"""By how many bytes a JPEG may exceed the raw pixels: a tiny frame's tables and headers."""

MAX_FRAME_NAME: Final = 64
"""Bytes in the name of a frame in shared memory."""

ITEM_BYTES: Final = {"uint8": 1, "float32": 4, "float64": 8}
"""Bytes of one number, by the name of its type."""

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(
    functools.reduce(operator.or_, Message.__subclasses__()), strict=True
)
_any_hello_decoder = msgspec.msgpack.Decoder(AnyHello, strict=True)

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""The last two: a text that is not UTF-8, and deeply nested lists."""

MAX_REFUSAL: Final = 200
"""Characters of an error: it may quote the sender."""


def encode(message: Message, buffers: Sequence[Buffer] = ()) -> list[Buffer]:
    """Return the parts of a multipart message: the header and the raw buffers."""
    return [_encoder.encode(message), *buffers]


def decode(parts: Sequence[Buffer]) -> tuple[Message, Sequence[Buffer]]:
    """Return the message and its buffers.

    Raises MessageError if the header is not one of ours or the buffers are not what it announces.
    """
    if not 1 <= len(parts) <= MAX_PARTS:
        raise MessageError(f"a message of {len(parts)} parts")
    if len(parts[0]) > MAX_HEADER_BYTES:
        raise MessageError(f"header: {len(parts[0])} bytes, {MAX_HEADER_BYTES} is the limit")
    try:
        message: Message = _decoder.decode(parts[0])
    except UNREADABLE as error:
        message = _hello_of_another_protocol(parts[0], error)
    buffers = parts[1:]
    _check(message, buffers)
    return message, buffers


def _hello_of_another_protocol(header: Buffer, error: Exception) -> Hello:
    """Return such a hello, for the broker to refuse. Raises MessageError, from `error`, if it is none."""
    try:
        hello = _any_hello_decoder.decode(header)
        if hello.protocol != PROTOCOL:
            return Hello(hello.role, hello.name, hello.instance, hello.pid, hello.protocol)
    except UNREADABLE:
        pass  # no hello at all: the first error says more
    raise MessageError(f"header: {error}"[:MAX_REFUSAL]) from error


def pack(arrays: Mapping[str, "NDArray[Any]"]) -> tuple[list[Array], list[Buffer]]:
    """Describe arrays of uint8, float32 or float64, and return their bytes; the first axis is the items."""
    described = [Array(name, str(array.dtype), list(array.shape)) for name, array in arrays.items()]  # type: ignore[arg-type]
    return described, [array.tobytes() for array in arrays.values()]


def unpack(arrays: Sequence[Array], buffers: Sequence[Buffer]) -> "dict[str, NDArray[Any]]":
    """Return the arrays by name, read-only; those of one name are concatenated along the first axis."""
    import numpy as np

    parts: dict[str, list[NDArray[Any]]] = {}
    for array, buffer in zip(arrays, buffers, strict=True):
        parts.setdefault(array.name, []).append(np.frombuffer(buffer, array.dtype).reshape(array.shape))
    return {name: found[0] if len(found) == 1 else np.concatenate(found) for name, found in parts.items()}


def _check(message: Message, buffers: Sequence[Buffer]) -> None:
    """Raise MessageError unless the buffers have the sizes that the header implies."""
    sizes = [len(b) if isinstance(b, bytes) else b.nbytes for b in buffers]
    match message:
        case Commit(latency_ns=latency_ns):
            right = len(latency_ns) <= len(sizes) <= MAX_RECORDS
            right = right and max(sizes, default=0) <= MAX_RECORD_BYTES
        case Frame(shape=shape, encoding=encoding, status=status, reason=reason):
            right = _are_pixels(sizes, shape, encoding)
            right = right and (status == "ok" if shape else status != "ok" and reason != "")
        case (
            Work(arrays=arrays, shape=shape, encoding=encoding)
            | Delivery(arrays=arrays, shape=shape, encoding=encoding)
        ):
            right = sizes[: len(arrays)] == [_bytes_of(array) for array in arrays]
            right = right and _are_pixels(sizes[len(arrays) :], shape, encoding)
        case Result(arrays=arrays):
            right = sizes == [_bytes_of(array) for array in arrays]
        case _:
            right = not sizes
    if not right:
        found = f"{sizes[:4]}…" if len(sizes) > 4 else f"{sizes}"
        raise MessageError(f"{type(message).__name__}: buffers of {found} bytes are not what it announces")


def _bytes_of(array: Array) -> int:
    return math.prod(array.shape) * ITEM_BYTES[array.dtype]


def _are_pixels(sizes: list[int], shape: tuple[int, int, int] | None, encoding: Encoding) -> bool:
    """Whether buffers of these sizes can be a frame of that shape: one, or none if there is no shape."""
    if shape is None or len(sizes) != 1:
        return shape is None and not sizes
    size, pixels = sizes[0], math.prod(shape)
    match encoding:
        case "raw":
            return size == pixels
        case "jpeg":
            return 1 <= size <= pixels + JPEG_OVERHEAD
        case "shared":
            return 1 <= size <= MAX_FRAME_NAME
