"""Messages of every kind with buffers that fit them."""

from msgspec.structs import replace

from pipeline.wire.messages import Array, Clock, Commit, Committed, Delivery, Message, Result, Work
from tests.support.broker_world import make_frame, make_hello, make_source, pixels


def make_delivery(faces: int, shape: tuple[int, int, int] | None) -> Delivery:
    arrays = [Array("probabilities", "float32", [faces, 7])]
    return Delivery("clip", 3, 5, 0.12, "ok", "", "", shape, 25.0, items=faces, arrays=arrays)  # type: ignore[arg-type]


def rows(count: int) -> bytes:
    return bytes(28 * count)


CROPS = [Array("crops", "uint8", [1, 48, 48]), Array("crops", "uint8", [2, 48, 48])]
WORK = Work("b", 7, 0, (2, 4, 3))
RESULT = Result("b", 7, 2, [Array("boxes", "float64", [2, 4])], 99)


JPEG = {"encoding": "jpeg"}
JPEGS: list[tuple[Message, list[bytes]]] = [
    (make_frame(1, **JPEG), [b"jpeg"]),
    (replace(WORK, encoding="jpeg"), [b"jpeg"]),
    (replace(make_delivery(2, (2, 4, 3)), **JPEG), [rows(2), b"jpeg"]),
]

EXAMPLES: list[tuple[Message, list[bytes]]] = [
    (make_frame(1), [pixels(make_frame(1))]),
    (make_hello("capture", "capture-1", source=make_source(), committed={"clip": Committed(3, 2, 1)}), []),
    (RESULT, [bytes(64)]),
    (Result("b", 7, 0, [Array("boxes", "float64", [0, 4])], 99), [b""]),
    (WORK, [bytes(24)]),
    (replace(WORK, arrays=RESULT.arrays), [bytes(64), bytes(24)]),
    (Clock(5, 6), []),
    (Work("b", 7, 3, arrays=CROPS), [bytes(2304), bytes(4608)]),
    (make_delivery(2, (2, 4, 3)), [rows(2), bytes(24)]),
    (make_delivery(0, (2, 4, 3)), [b"", bytes(24)]),
    (make_delivery(2, None), [rows(2)]),
    (Commit("clip", Committed(1, 1), [5], 9), [b"{}"]),
]
