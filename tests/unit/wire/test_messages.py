"""Messages survive the way there, and what is malformed is refused."""

import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.wire.codec import JPEG_OVERHEAD, decode, encode
from pipeline.wire.messages import (
    MAX_ARRAYS,
    MAX_BATCH,
    MAX_DIMENSIONS,
    MAX_ERROR,
    MAX_HEADER_BYTES,
    MAX_IN_VIEW,
    MAX_ITEMS,
    MAX_LATENCIES,
    MAX_PARTS,
    MAX_PEERS,
    MAX_REASONS,
    MAX_RECORD_BYTES,
    MAX_SIDE,
    MAX_SOURCES,
    PROTOCOL,
    Accept,
    Array,
    Commit,
    Committed,
    Delivery,
    Frame,
    Hello,
    InView,
    Message,
    MessageError,
    PeerReport,
    SourceReport,
    Work,
)
from tests.support.broker_world import make_frame, make_hello, make_report
from tests.support.wire_examples import EXAMPLES, JPEGS, RESULT, WORK


@pytest.mark.parametrize(("message", "buffers"), EXAMPLES, ids=lambda v: type(v).__name__)
def test_round_trip(message: Message, buffers: list[bytes]) -> None:
    decoded, parts = decode(encode(message, buffers))
    assert decoded == message
    assert list(parts) == buffers


@pytest.mark.parametrize(("message", "buffers"), EXAMPLES, ids=lambda v: type(v).__name__)
def test_a_buffer_too_many_or_of_another_length_is_refused(message: Message, buffers: list[bytes]) -> None:
    if isinstance(message, Commit):
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
        with pytest.raises(MessageError, match="are not what it announces"):
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


def raw_array(**changes: Any) -> dict[str, Any]:
    return {"name": "boxes", "dtype": "float64", "shape": [2, 4]} | changes


def raw_source(**changes: Any) -> dict[str, Any]:
    return {"name": "c", "kind": "file", "width": 4, "height": 2, "fps": 25.0} | changes


def raw(message: Message, **changes: Any) -> bytes:
    """The header of a message with fields that the structs themselves would not refuse to hold."""
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(message)) | changes
    return msgspec.msgpack.encode(fields)


@pytest.mark.parametrize(
    ("message", "changes", "buffers"),
    [
        (make_frame(1), {"shape": (MAX_SIDE + 1, 1, 3)}, [bytes(3 * (MAX_SIDE + 1))]),
        (make_frame(1), {"shape": (0, 4, 3)}, [b""]),
        (make_frame(1), {"shape": None}, []),
        (make_frame(1), {"shape": None, "status": "dropped"}, []),
        (make_frame(1), {"shape": None, "status": "failed", "reason": "x"}, [bytes(24)]),
        (make_frame(1), {"status": "dropped", "reason": "x"}, [bytes(24)]),
        (make_frame(1), {"shape": (2, 4, 4)}, [bytes(32)]),
        (make_frame(1), {"sequence": -1}, [bytes(24)]),
        (make_frame(1), {"sequence": "1"}, [bytes(24)]),
        (make_frame(1), {"time_s": float("nan")}, [bytes(24)]),
        (make_frame(1), {"surprise": 1}, [bytes(24)]),
        (make_frame(1), {"type": "Command"}, [bytes(24)]),
        (make_frame(1), {"shape": (2**40, 2**40, 3)}, [bytes(24)]),
        (make_frame(1), {"sequence": 2**60}, [bytes(24)]),
        (make_frame(1), {"captured_ns": -(2**63)}, [bytes(24)]),
        (make_frame(1), {"time_s": float("inf")}, [bytes(24)]),
        (make_frame(1), {"source": "x" * 1025}, [bytes(24)]),
        (RESULT, {"step_ns": 2**62}, [bytes(64)]),
        (RESULT, {"items": MAX_ITEMS + 1}, [bytes(64)]),
        (RESULT, {"arrays": [raw_array()] * (MAX_ARRAYS + 1)}, [bytes(64)] * (MAX_ARRAYS + 1)),
        (RESULT, {"arrays": [raw_array(dtype="object")]}, [bytes(64)]),
        (RESULT, {"arrays": [raw_array(shape=[])]}, [bytes(8)]),
        (RESULT, {"arrays": [raw_array(shape=[2, 2, 2, 1, 1])]}, [bytes(64)]),
        (RESULT, {"arrays": [raw_array(shape=[2**40, 2**40])]}, [bytes(64)]),
        (RESULT, {"arrays": [raw_array(shape=[-2, -4])]}, [bytes(64)]),
        (WORK, {"arrays": [raw_array()] * (MAX_BATCH + 1)}, [bytes(24), *[bytes(64)] * (MAX_BATCH + 1)]),
        (Commit("c", Committed(), [], 9), {"latency_ns": [1] * 65}, [b"{}"] * 65),
        (Commit("c", Committed(), [], 9), {}, [b"{}"] * 65),
        (Commit("c", Committed(), [], 9), {}, [bytes(MAX_RECORD_BYTES + 1)]),
        (Commit("c", Committed(), [], 9), {"committed": {"dropped": {str(n): 1 for n in range(17)}}}, []),
        (Commit("c", Committed(), [], 9), {"committed": {"written": 2**41}}, []),
        (make_hello("detect", "d"), {"committed": {str(n): {} for n in range(MAX_SOURCES + 1)}}, []),
        (make_hello("detect", "d"), {"credits": 65}, []),
        (make_hello("detect", "d"), {"credits": -1}, []),
        (make_hello("detect", "d"), {"instance": "x" * 65}, []),
        (make_hello("capture", "c"), {"source": raw_source(fps=float("nan"))}, []),
        (make_hello("capture", "c"), {"source": raw_source(width=0)}, []),
        (make_report(), {"batches": {"many": 1}}, []),
        (make_report(), {"latency_ns": [1] * 5000}, []),
    ],
)
def test_values_out_of_bounds_are_refused(
    message: Message, changes: dict[str, Any], buffers: list[bytes]
) -> None:
    with pytest.raises(MessageError):
        decode([raw(message, **changes), *buffers])


def test_a_header_is_measured_before_it_is_decoded() -> None:
    with pytest.raises(MessageError, match="is the limit"):
        decode([bytes(MAX_HEADER_BYTES + 1)])


@pytest.mark.parametrize("parts", [[], [b"x"] * (MAX_PARTS + 1)], ids=len)
def test_parts_are_counted_before_they_are_looked_at(parts: list[bytes]) -> None:
    with pytest.raises(MessageError, match="parts"):
        decode(parts)


@pytest.mark.parametrize("depth", [500, 100_000])
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1x", b"\x82\xa4type\xa5Hello\xa1x\x91"])
def test_what_is_nested_deeply_is_refused(opening: bytes, depth: int) -> None:
    for header in (opening * depth, b"\x82\xa1x" + opening * depth):
        with pytest.raises(MessageError):
            decode([header])


def test_a_length_is_not_believed_before_so_much_is_there() -> None:
    header = bytes(encode(RESULT)[0])
    at = header.index(b"arrays") + len(b"arrays")
    tracemalloc.start()
    with pytest.raises(MessageError):
        decode([header[:at] + b"\xdd\xff\xff\xff\xff" + header[at + 1 :], b""])
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 1_000_000


def longest(letters: int) -> str:
    return "\N{GRINNING FACE}" * letters  # four bytes each in UTF-8


def test_the_largest_messages_that_there_can_be_find_room() -> None:
    """Else an honest stage could be made to send, by another's names, what the rest does not read."""
    dropped = {f"{number:04}{longest(60)}": 2**40 for number in range(MAX_REASONS)}
    committed = Committed(2**40, 2**40, 2**40, dropped)
    names = [f"{number:04}{longest(1020)}" for number in range(MAX_SOURCES)]
    in_view = [InView(2**53, longest(64), 1e-9)] * MAX_IN_VIEW
    rest = longest(MAX_ERROR), 2**40, in_view, MAX_ITEMS
    sources = [SourceReport(n, "live", 2**53, 2**53, committed, True, *rest) for n in names]
    peer = PeerReport(longest(64), longest(64), "classify", 1e15, True)
    arrays = [Array(longest(64), "float64", [2**53] * MAX_DIMENSIONS)] * MAX_BATCH
    texts = "ok", longest(4096), longest(4096)
    delivery = Delivery(
        names[0], 2**53, 2**62, 1e-9, *texts, (9999, 9999, 3), 1e-9, arrays=arrays[:MAX_ARRAYS]
    )
    work = Work(longest(64), 2**53, 2**53, (9999, 9999, 3), arrays=arrays)
    largest: list[Message] = [
        make_report(
            broker=longest(64),
            stopping=longest(4096),
            sources=sources,
            peers=[peer] * (2 * MAX_PEERS),
            batches=dict.fromkeys(range(1, MAX_BATCH + 1), 2**53),
            latency_ns=[2**62] * MAX_LATENCIES,
        ),
        make_hello("display", longest(64), instance=longest(64), committed=dict.fromkeys(names, committed)),
        Accept(longest(64), 2**53, 2**53, True, dict.fromkeys(names, committed)),
        delivery,
        work,
    ]
    for message in largest:
        assert len(encode(message)[0]) <= MAX_HEADER_BYTES
    decode(encode(largest[0]))
    decode(encode(largest[1]))


def test_pixels_are_not_copied() -> None:
    data = memoryview(bytearray(24))
    message, buffers = decode(encode(make_frame(0), [data]))
    assert isinstance(message, Frame)
    assert buffers[0] is data


def test_a_hello_of_another_protocol_can_be_refused_though_it_has_fields_of_its_own() -> None:
    fields = {
        "type": "Hello",
        "role": "detect",
        "name": "d",
        "instance": "s",
        "pid": 1,
        "protocol": PROTOCOL + 1,
    }
    header = msgspec.msgpack.encode(fields | {"moods": 3})
    message, _ = decode([header])
    assert message == Hello("detect", "d", "s", 1, PROTOCOL + 1)
    with pytest.raises(MessageError, match="unknown field `moods`"):
        decode([msgspec.msgpack.encode(fields | {"moods": 3, "protocol": PROTOCOL})])
