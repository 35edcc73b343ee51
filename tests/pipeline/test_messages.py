"""Messages survive the way there, and what is malformed is refused."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.messages import (
    JPEG_OVERHEAD,
    MAX_SIDE,
    Classified,
    ClassifyWork,
    Clock,
    Delivery,
    Detected,
    DetectWork,
    Face,
    Frame,
    Message,
    MessageError,
    Progress,
    Written,
    decode,
    encode,
)
from tests.builders import crops, make_faces, make_frame, make_hello, make_source, pixels, probabilities


def make_delivery(faces: int, shape: tuple[int, int, int] | None) -> Delivery:
    return Delivery("clip", 3, 5, 0.12, "ok", "", "", make_faces(faces), shape, 25.0)  # type: ignore[arg-type]


JPEG = {"encoding": "jpeg"}
JPEGS: list[tuple[Message, list[bytes]]] = [
    (make_frame(1, **JPEG), [b"jpeg"]),
    (DetectWork("b", 7, (2, 4, 3), "jpeg"), [b"jpeg"]),
    (msgspec.structs.replace(make_delivery(2, (2, 4, 3)), **JPEG), [probabilities(2), b"jpeg"]),
]

EXAMPLES: list[tuple[Message, list[bytes]]] = [
    (make_frame(1), [pixels(make_frame(1))]),
    (make_hello("capture", "capture-1", source=make_source(), progress={"clip": Progress(3, 2, 1)}), []),
    (Detected("b", 7, make_faces(2), 99), [crops(2)]),
    (Detected("b", 7, [], 99), [b""]),
    (DetectWork("b", 7, (2, 4, 3)), [bytes(24)]),
    (Clock(5, 6), []),
    (ClassifyWork("b", 7, 3), [crops(1), crops(2)]),
    (Classified("b", 7, 3, 99), [probabilities(3)]),
    (make_delivery(2, (2, 4, 3)), [probabilities(2), bytes(24)]),
    (make_delivery(0, (2, 4, 3)), [bytes(24)]),
    (make_delivery(2, None), [probabilities(2)]),
    (Written("clip", Progress(1, 1), [5], 9), [b"{}"]),
]


@pytest.mark.parametrize(("message", "buffers"), EXAMPLES, ids=lambda v: type(v).__name__)
def test_round_trip(message: Message, buffers: list[bytes]) -> None:
    decoded, parts = decode(encode(message, buffers))
    assert decoded == message
    assert list(parts) == buffers


@pytest.mark.parametrize(("message", "buffers"), EXAMPLES, ids=lambda v: type(v).__name__)
def test_a_buffer_too_many_or_of_another_length_is_refused(message: Message, buffers: list[bytes]) -> None:
    if isinstance(message, Written):
        wrong: list[list[bytes]] = [[]]  # fewer records than latencies
    else:
        wrong = [[*buffers, b"x"], [*buffers[:-1], buffers[-1] + b"x"] if buffers else [b"x"]]
    for parts in wrong:
        with pytest.raises(MessageError):
            decode(encode(message, parts))


@pytest.mark.parametrize(("message", "buffers"), JPEGS, ids=lambda v: type(v).__name__)
def test_a_jpeg_has_any_length_within_reason(message: Message, buffers: list[bytes]) -> None:
    assert decode(encode(message, buffers))[0] == message
    most = 24 + JPEG_OVERHEAD
    assert decode(encode(message, [*buffers[:-1], bytes(most)]))[0] == message
    for wrong in ([*buffers[:-1], b""], [*buffers[:-1], bytes(most + 1)], buffers[:-1], [*buffers, b"x"]):
        with pytest.raises(MessageError, match=f"a JPEG of at most {most} bytes expected"):
            decode(encode(message, wrong))


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_whatever_arrives_is_a_message_or_refused(parts: list[bytes]) -> None:
    try:
        decode(parts)
    except MessageError:
        return


@given(st.data())
def test_a_damaged_header_is_a_message_or_refused(data: st.DataObject) -> None:
    message, buffers = data.draw(st.sampled_from(EXAMPLES))
    header = bytearray(bytes(encode(message)[0]))
    header[data.draw(st.integers(0, len(header) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode([bytes(header), *buffers])
    except MessageError:
        return


def raw(message: Message, **changes: Any) -> bytes:
    """The header of a message with fields that the structs themselves would not refuse to hold."""
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(message)) | changes
    return msgspec.msgpack.encode(fields)


@pytest.mark.parametrize(
    ("message", "changes", "buffers"),
    [
        (make_frame(1), {"shape": (MAX_SIDE + 1, 1, 3)}, [bytes(3 * (MAX_SIDE + 1))]),
        (make_frame(1), {"shape": (0, 4, 3)}, [b""]),
        (make_frame(1), {"shape": (2, 4, 4)}, [bytes(32)]),
        (make_frame(1), {"sequence": -1}, [bytes(24)]),
        (make_frame(1), {"sequence": "1"}, [bytes(24)]),
        (make_frame(1), {"time_s": float("nan")}, [bytes(24)]),
        (make_frame(1), {"surprise": 1}, [bytes(24)]),
        (make_frame(1), {"type": "Command"}, [bytes(24)]),
        (Classified("b", 7, 1, 9), {"crops": 10**9}, [probabilities(1)]),
    ],
)
def test_values_out_of_bounds_are_refused(
    message: Message, changes: dict[str, Any], buffers: list[bytes]
) -> None:
    with pytest.raises(MessageError):
        decode([raw(message, **changes), *buffers])


@pytest.mark.parametrize(
    "box",
    [
        (float("nan"), 0.0, 5.0, 5.0),
        (0.0, 0.0, float("inf"), 5.0),
        (0.0, 0.0, -5.0, 5.0),
        (0.0, 0.0, 0.0, 5.0),
        (1e9, 0.0, 5.0, 5.0),
    ],
)
def test_impossible_boxes_are_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(MessageError):
        decode(encode(Detected("b", 1, [Face(box, 0.9)], 5), [crops(1)]))


def test_pixels_are_not_copied() -> None:
    data = memoryview(bytearray(24))
    message, buffers = decode(encode(make_frame(0), [data]))
    assert isinstance(message, Frame)
    assert buffers[0] is data
