"""The messages between the broker and the stages, and how they travel.

A message is a small typed header and, beside it, raw buffers: `encode` makes the parts of a multipart
ZeroMQ message, `decode` is its inverse and refuses whatever is not exactly right. Nothing is pickled.

Every frame is named by `(source, sequence)`; `epoch` tells which incarnation of its capture process sent
it. Times are CLOCK_MONOTONIC nanoseconds of the broker's machine: remote stages estimate how far theirs is
off (`pipeline/wire/clock_sync.py`).
"""

import math
from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from pipeline.common.labels import EMOTIONS, FACE_SIZE
from pipeline.wire.limits import (
    MAX_BATCH,
    MAX_ERROR,
    MAX_FACES,
    MAX_HEADER_BYTES,
    MAX_LATENCIES,
    MAX_PARTS,
    MAX_PEERS,
    MAX_REASONS,
    MAX_RECORD_BYTES,
    MAX_RECORDS,
    MAX_SOURCES,
    Count,
    Credits,
    Crops,
    Duration,
    Extent,
    Frames,
    Index,
    Label,
    Moment,
    Name,
    Nanoseconds,
    Place,
    Rate,
    Reason,
    Score,
    Seconds,
    Shape,
    Side,
    Text,
)
from pipeline.wire.limits import MAX_SIDE as MAX_SIDE  # what stages need to know of frames

PROTOCOL: Final = 4
"""Raised whenever a message changes: peers of another protocol are refused."""

JPEG_OVERHEAD: Final = 4096
"""Bytes that the JPEG of a tiny frame may be longer than its pixels: tables and headers."""

MAX_FRAME_NAME: Final = 64
"""Bytes in the name of a frame in shared memory."""

Buffer = bytes | memoryview
Role = Literal["capture", "detect", "classify", "display", "supervisor"]
SourceKind = Literal["live", "file"]
Status = Literal["ok", "dropped", "failed"]
Encoding = Literal["raw", "jpeg", "shared"]


class MessageError(ValueError):
    """What arrived is not a message of this protocol; says what is wrong with it."""


class Message(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Base of all messages; the class name travels as the tag."""


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far the outcomes of a source have been written: all frames before `written` have theirs."""

    written: Frames = 0
    ok: Frames = 0
    failed: Frames = 0
    dropped: Annotated[dict[Reason, Frames], Meta(max_length=MAX_REASONS)] = {}  # by reason


Outcomes = Annotated[dict[Name, Progress], Meta(max_length=MAX_SOURCES)]


class SourceInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a capture process says of its source once it is open."""

    name: Name  # unique in the run, without credentials
    kind: SourceKind
    width: Side  # px, of the first frame
    height: Side
    fps: Rate  # nominal; 0: unknown


Box = tuple[Place, Place, Extent, Extent]
"""x, y, width, height in pixels of the frame."""


class Face(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A detected face: the detector's box in pixels of the frame, and its score in 0..1."""

    box_px: Box
    score: Score


Faces = Annotated[list[Face], Meta(max_length=MAX_FACES)]


# ------------------------------------------------------------------------------------- from the stages


class Hello(Message, frozen=True):
    """First message of every stage, sent when it is ready to work, and again to a new broker."""

    role: Role
    name: Label  # as in the log: detect-1
    slot: Label  # the same for every restart of one process, different for any other
    pid: Index
    protocol: int
    credits: Credits = 0  # pieces of work that may be under way at this worker
    fingerprint: Text = ""  # of the model and its labels: workers of one role must agree
    source: SourceInfo | None = None  # capture
    wants_pixels: bool = False  # display
    watched: bool = False  # display: people look at it, so files play at their own rate
    progress: Outcomes = {}  # by source; display and capture: what they know to be written
    remote: bool = False  # the broker is on another machine
    frames: Text = ""  # where it shares the memory of frames; empty: nowhere


class _AnyHello(msgspec.Struct, frozen=True, tag="Hello"):
    """What a hello begins with in every protocol, so that any two can tell each other why they don't talk."""

    role: Role
    name: Name
    slot: Name
    pid: Index
    protocol: int


class Heartbeat(Message, frozen=True):
    """Sent by the loop that does the work, so that a stuck one falls silent.

    A remote stage asks for the broker's time with it (`Clock`), and says how its own clock stands to it.
    """

    sent_ns: Nanoseconds = 0  # on the stage's clock; 0: the time is not wanted
    offset_ns: Moment = 0  # the broker's clock less the stage's
    error_ns: Nanoseconds = 0  # by which the offset may be wrong


class Frame(Message, frozen=True):
    """A captured frame of `shape` (height, width, 3), uint8, BGR; buffer: as `encoding` says.

    raw: its pixels. jpeg: a JPEG of them. shared: their name in memory that the run's processes share.
    """

    source: Name
    epoch: Index
    sequence: Index
    captured_ns: Moment
    time_s: Seconds  # place in the video, or since the first frame of a live source
    shape: Shape
    file: Text = ""  # of a folder's picture
    encoding: Encoding = "raw"


class NoFrame(Message, frozen=True):
    """A frame that exists but brings no pixels: dropped before it was sent, or unreadable."""

    source: Name
    epoch: Index
    sequence: Index
    captured_ns: Moment
    time_s: Seconds
    status: Literal["dropped", "failed"]
    reason: Name
    file: Text = ""


class SourceEnded(Message, frozen=True):
    """A source has no more frames. `error` says why if it ended before its end.

    From the parent: its capture process can't be kept alive; `epoch` and `frames` mean nothing then.
    """

    source: Name
    epoch: Index
    frames: Index  # all that were captured: the next sequence
    error: Text = ""


class Detected(Message, frozen=True):
    """Answer to `DetectWork`; buffer: grey uint8 crops, (faces, 48, 48)."""

    broker: Label
    work: Index
    faces: Faces
    step_ns: Duration


class Classified(Message, frozen=True):
    """Answer to `ClassifyWork`; buffer: float32 probabilities, (crops, 7), in the order of EMOTIONS."""

    broker: Label
    work: Index
    crops: Crops
    step_ns: Duration


class StepFailed(Message, frozen=True):
    """Answer to a piece of work that could not be done: its frames are `failed`, the worker lives."""

    broker: Label
    work: Index
    reason: Name


class Written(Message, frozen=True):
    """From display: what it was delivered of `source` is written up to `progress.written`.

    `latency_ns`: capture to written, of the records with status ok. Buffers: the records, JSON.
    """

    source: Name
    progress: Progress
    latency_ns: Annotated[list[Nanoseconds], Meta(max_length=MAX_RECORDS)]
    step_ns: Duration


class StopRequest(Message, frozen=True):
    """From display (`q`) or the parent: finish what is under way and end the run."""

    reason: Name


class Died(Message, frozen=True):
    """From the parent: the process with this slot is dead; what it held is free."""

    slot: Label


class Goodbye(Message, frozen=True):
    """A stage leaves of its own will: what it held is given to others."""


# -------------------------------------------------------------------------------------- from the broker


class Clock(Message, frozen=True):
    """Answer to a `Heartbeat` with a time: that time, and the broker's own when it came."""

    sent_ns: Nanoseconds
    broker_ns: Nanoseconds


class Introduce(Message, frozen=True):
    """To a peer that the broker does not know: say hello (again)."""


class Welcome(Message, frozen=True):
    """Answer to `Hello`. `epoch` and `progress` are for captures, `progress` for display as well."""

    broker: Label
    epoch: Index = 0
    next_sequence: Index = 0  # capture: what the broker wants next
    paced: bool = False  # capture: a file plays at its own rate
    progress: Outcomes = {}


class Refused(Message, frozen=True):
    """The peer may not take part; it prints the reason and ends."""

    reason: Text


class Grant(Message, frozen=True):
    """To a capture: it may send so many frames more; what of its source is written."""

    source: Name
    credits: Count
    progress: Progress
    encoding: Encoding = "raw"  # in which the frames to come are wanted


class DetectWork(Message, frozen=True):
    """Buffer: the frame as capture has sent it. `around`: search for faces near these; None: everywhere."""

    broker: Label
    work: Index
    shape: Shape
    encoding: Encoding = "raw"
    around: Annotated[list[Box], Meta(max_length=MAX_FACES)] | None = None


class ClassifyWork(Message, frozen=True):
    """Buffers: grey uint8 crops, each (n, 48, 48), `crops` in all."""

    broker: Label
    work: Index
    crops: Crops


class Delivery(Message, frozen=True):
    """An outcome for display, in order within its source.

    Buffers: float32 probabilities (faces, 7) if there are faces; then the frame as capture has sent it, if
    display wants pixels and the frame has them (`shape` is not None).
    """

    source: Name
    sequence: Index
    captured_ns: Moment
    time_s: Seconds
    status: Status
    reason: Text
    file: Text
    faces: Faces
    shape: Shape | None
    fps: Rate  # of the source, nominal; 0: unknown
    encoding: Encoding = "raw"


class EndOfSource(Message, frozen=True):
    """To display: the source has no more records."""

    source: Name


class End(Message, frozen=True):
    """The run is over: write what there is to write, close, and end with status 0."""


class StopCapture(Message, frozen=True):
    """To captures: take no more frames."""


class PeerReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One stage as the broker sees it."""

    slot: Label
    name: Label
    role: Role
    silent_s: Seconds
    given_up: bool
    remote: bool = False  # the next two are its own words then
    offset_ns: Moment = 0
    error_ns: Nanoseconds = 0


class SourceReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One source as the broker sees it. captured = ok + dropped + failed + in_flight."""

    name: Name
    kind: SourceKind
    captured: Index
    in_flight: Index
    progress: Progress
    ended: bool
    error: Annotated[str, Meta(max_length=MAX_ERROR)]


ByRole = dict[Role, Nanoseconds]
Digits = Annotated[str, Meta(pattern="^[0-9]{1,6}$")]


class StatusReport(Message, frozen=True):
    """To the parent, a few times a second. Rates are over the time since the last report."""

    broker: Label
    started: bool
    finished: bool
    stopping: Text  # why, if it is
    interval_s: Seconds
    sources: Annotated[list[SourceReport], Meta(max_length=MAX_SOURCES)]
    peers: Annotated[list[PeerReport], Meta(max_length=2 * MAX_PEERS)]
    steps: ByRole  # frames since the start
    busy_ns: ByRole  # time in the steps since the start
    batches: Annotated[dict[Digits, Index], Meta(max_length=MAX_BATCH)]  # crops in a batch -> how often
    latency_ns: Annotated[list[Nanoseconds], Meta(max_length=MAX_LATENCIES)]  # written since the last report
    held_bytes: Index
    elapsed_s: Seconds  # from the start of the run to the last frame written
    bad_messages: Index


AnyMessage = (
    Hello
    | Heartbeat
    | Frame
    | NoFrame
    | SourceEnded
    | Detected
    | Classified
    | StepFailed
    | Written
    | StopRequest
    | Died
    | Goodbye
    | Clock
    | Introduce
    | Welcome
    | Refused
    | Grant
    | DetectWork
    | ClassifyWork
    | Delivery
    | EndOfSource
    | End
    | StopCapture
    | StatusReport
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyMessage, strict=True)
_any_hello_decoder = msgspec.msgpack.Decoder(_AnyHello, strict=True)

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""The latter two: a name that is no UTF-8, and lists in lists in lists."""

CROP_BYTES: Final = FACE_SIZE * FACE_SIZE
PROBABILITIES_BYTES: Final = 4 * len(EMOTIONS)
MAX_REFUSAL: Final = 200
"""Characters of what is wrong with a message: they may be the sender's own."""

TOLERANCE: Final = 0.01
"""By which the probabilities of a face may miss 1: float16 on a worker's side would."""


def encode(message: Message, buffers: Sequence[Buffer] = ()) -> list[Buffer]:
    """Return the parts of a multipart message: the header and the raw buffers."""
    return [_encoder.encode(message), *buffers]


def decode(parts: Sequence[Buffer]) -> tuple[AnyMessage, Sequence[Buffer]]:
    """Return the message and its buffers.

    Raises MessageError if the header is not one of ours or the buffers are not what it announces.
    """
    if not 1 <= len(parts) <= MAX_PARTS:
        raise MessageError(f"a message of {len(parts)} parts")
    if len(parts[0]) > MAX_HEADER_BYTES:
        raise MessageError(f"header: {len(parts[0])} bytes, {MAX_HEADER_BYTES} is the limit")
    try:
        message: AnyMessage = _decoder.decode(parts[0])
    except UNREADABLE as error:
        message = _hello_of_another_protocol(parts[0], error)
    buffers = parts[1:]
    _check(message, buffers)
    return message, buffers


def _hello_of_another_protocol(header: Buffer, error: Exception) -> Hello:
    """What can be read of it, for the broker to refuse. Raises MessageError, of `error`, if it is none."""
    try:
        hello = _any_hello_decoder.decode(header)
        if hello.protocol != PROTOCOL:
            return Hello(hello.role, hello.name, hello.slot, hello.pid, hello.protocol)
    except UNREADABLE:
        pass  # it was no hello at all: the first error says more
    raise MessageError(f"header: {error}"[:MAX_REFUSAL]) from error


def _check(message: AnyMessage, buffers: Sequence[Buffer]) -> None:
    """Raise MessageError unless lengths, counts and numbers agree."""
    sizes = [len(b) if isinstance(b, bytes) else b.nbytes for b in buffers]
    match message:
        case ClassifyWork(crops=crops):
            right = sum(sizes) == crops * CROP_BYTES and all(n and n % CROP_BYTES == 0 for n in sizes)
        case Written(latency_ns=latency_ns):
            right = len(latency_ns) <= len(sizes) <= MAX_RECORDS
            right = right and max(sizes, default=0) <= MAX_RECORD_BYTES
        case Frame(shape=shape, encoding=encoding) | DetectWork(shape=shape, encoding=encoding):
            right = len(sizes) == 1 and _are_pixels(sizes[0], shape, encoding)
        case Detected(faces=faces):
            right = sizes == [len(faces) * CROP_BYTES]
        case Classified(crops=crops):
            right = sizes == [crops * PROBABILITIES_BYTES] and _are_probabilities(buffers[0])
        case Delivery(faces=faces, shape=shape, encoding=encoding):
            expected = [len(faces) * PROBABILITIES_BYTES] if faces else []
            right = len(sizes) == len(expected) + (shape is not None) and sizes[: len(expected)] == expected
            right = right and (shape is None or _are_pixels(sizes[-1], shape, encoding))
            right = right and (not faces or _are_probabilities(buffers[0]))
        case _:
            right = not sizes
    if not right:
        found = f"{sizes[:4]}…" if len(sizes) > 4 else f"{sizes}"
        raise MessageError(f"{type(message).__name__}: buffers of {found} bytes are not what it announces")


def _are_pixels(size: int, shape: tuple[int, int, int], encoding: Encoding) -> bool:
    """Whether a buffer can be a frame of that shape."""
    pixels = math.prod(shape)
    match encoding:
        case "raw":
            return size == pixels
        case "jpeg":
            return 1 <= size <= pixels + JPEG_OVERHEAD
        case "shared":
            return 1 <= size <= MAX_FRAME_NAME


def _are_probabilities(buffer: Buffer) -> bool:
    """Whether the rows, float32 in the order of EMOTIONS, are finite, from 0 to 1, and add up to 1."""
    import numpy as np  # here: the parent, which sees no probabilities, does not load it

    rows = np.frombuffer(buffer, np.float32).reshape(-1, len(EMOTIONS))
    if not (rows.min() >= 0 and rows.max() <= 1):  # nor is it so of what is not a number
        return False
    sums = rows.sum(axis=1)
    return bool(sums.min() >= 1 - TOLERANCE and sums.max() <= 1 + TOLERANCE)
