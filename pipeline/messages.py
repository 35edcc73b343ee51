"""The messages between the broker and the stages, and how they travel.

A message is a small typed header and, beside it, raw buffers: `encode` makes the parts of a multipart
ZeroMQ message, `decode` is its inverse and refuses whatever is not exactly right. Nothing is pickled.

Every frame is named by `(source, sequence)`; `epoch` tells which incarnation of its capture process sent
it. Times are CLOCK_MONOTONIC nanoseconds of the broker's machine: remote stages estimate how far theirs is
off (`pipeline/clocks.py`).
"""

import math
from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from pipeline.emotions import EMOTIONS, FACE_SIZE

PROTOCOL: Final = 2
"""Raised whenever a message changes: peers of another protocol are refused."""

MAX_SIDE: Final = 16_384
"""Longest side of a frame, px: room for 8K video and large photographs."""

JPEG_OVERHEAD: Final = 4096
"""Bytes that the JPEG of a tiny frame may be longer than its pixels: tables and headers."""

Buffer = bytes | memoryview
Name = Annotated[str, Meta(min_length=1, max_length=1024)]
Text = Annotated[str, Meta(max_length=4096)]
Index = Annotated[int, Meta(ge=0, le=2**53)]
Nanoseconds = Annotated[int, Meta(ge=0, le=2**62)]
Moment = Annotated[int, Meta(ge=-(2**62), le=2**62)]  # ns: before the boot of the machine, if negative
Duration = Annotated[int, Meta(ge=0, le=10**13)]  # ns: below three hours, so that sums of many fit 64 bits
Count = Annotated[int, Meta(ge=0, le=100_000)]
Credits = Annotated[int, Meta(ge=0, le=64)]
Side = Annotated[int, Meta(ge=1, le=MAX_SIDE)]
Role = Literal["capture", "detect", "classify", "display", "parent"]
SourceKind = Literal["live", "file"]
Status = Literal["ok", "dropped", "failed"]
Encoding = Literal["raw", "jpeg"]


class MessageError(ValueError):
    """What arrived is not a message of this protocol; says what is wrong with it."""


class Message(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Base of all messages; the class name travels as the tag."""


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far the outcomes of a source have been written: all frames before `written` have theirs."""

    written: Index = 0
    ok: Index = 0
    failed: Index = 0
    dropped: dict[Name, Index] = {}  # by reason


class SourceInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a capture process says of its source once it is open."""

    name: Name  # unique in the run, without credentials
    kind: SourceKind
    width: Side  # px, of the first frame
    height: Side
    fps: Annotated[float, Meta(ge=0, le=100_000)]  # nominal; 0: unknown


class Face(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A detected face: the detector's box in pixels of the frame, and its score in 0..1."""

    box_px: tuple[float, float, float, float]  # x, y, width, height
    score: float


# ------------------------------------------------------------------------------------- from the stages


class Hello(Message, frozen=True):
    """First message of every stage, sent when it is ready to work, and again to a new broker."""

    role: Role
    name: Name  # as in the log: detect-1
    slot: Name  # the same for every restart of one process, different for any other
    pid: Index
    protocol: int
    credits: Credits = 0  # pieces of work that may be under way at this worker
    fingerprint: Text = ""  # of the model: workers of one role must agree
    spare: bool = False  # classify: warm, and gets work only while another one is missing
    source: SourceInfo | None = None  # capture
    wants_pixels: bool = False  # display
    watched: bool = False  # display: people look at it, so files play at their own rate
    progress: dict[Name, Progress] = {}  # by source; display and capture: what they know to be written
    remote: bool = False  # the broker is on another machine


class Heartbeat(Message, frozen=True):
    """Sent by the loop that does the work, so that a stuck one falls silent.

    A remote stage asks for the broker's time with it (`Clock`), and says how its own clock stands to it.
    """

    sent_ns: Nanoseconds = 0  # on the stage's clock; 0: the time is not wanted
    offset_ns: Moment = 0  # the broker's clock less the stage's
    error_ns: Nanoseconds = 0  # by which the offset may be wrong


class Frame(Message, frozen=True):
    """A captured frame; buffer: its pixels, uint8, BGR, `shape` (height, width, 3), or a JPEG of them."""

    source: Name
    epoch: Index
    sequence: Index
    captured_ns: Moment
    time_s: float  # place in the video, or since the first frame of a live source
    shape: tuple[Side, Side, Literal[3]]
    file: Text = ""  # of a folder's picture
    encoding: Encoding = "raw"


class NoFrame(Message, frozen=True):
    """A frame that exists but brings no pixels: dropped before it was sent, or unreadable."""

    source: Name
    epoch: Index
    sequence: Index
    captured_ns: Moment
    time_s: float
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

    broker: Name
    work: Index
    faces: list[Face]
    step_ns: Duration


class Classified(Message, frozen=True):
    """Answer to `ClassifyWork`; buffer: float32 probabilities, (crops, 7), in the order of EMOTIONS."""

    broker: Name
    work: Index
    crops: Count
    step_ns: Duration


class StepFailed(Message, frozen=True):
    """Answer to a piece of work that could not be done: its frames are `failed`, the worker lives."""

    broker: Name
    work: Index
    reason: Name


class Written(Message, frozen=True):
    """From display: what it was delivered of `source` is written up to `progress.written`.

    `latency_ns`: capture to written, of the records with status ok. Buffers: the records, JSON.
    """

    source: Name
    progress: Progress
    latency_ns: list[Nanoseconds]
    step_ns: Duration


class StopRequest(Message, frozen=True):
    """From display (`q`) or the parent: finish what is under way and end the run."""

    reason: Name


class Died(Message, frozen=True):
    """From the parent: the process with this slot is dead; what it held is free."""

    slot: Name


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

    broker: Name
    epoch: Index = 0
    next_sequence: Index = 0  # capture: what the broker wants next
    paced: bool = False  # capture: a file plays at its own rate
    progress: dict[Name, Progress] = {}


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
    """Buffer: the frame as capture has sent it."""

    broker: Name
    work: Index
    shape: tuple[Side, Side, Literal[3]]
    encoding: Encoding = "raw"


class ClassifyWork(Message, frozen=True):
    """Buffers: grey uint8 crops, each (n, 48, 48), `crops` in all."""

    broker: Name
    work: Index
    crops: Count


class Delivery(Message, frozen=True):
    """An outcome for display, in order within its source.

    Buffers: float32 probabilities (faces, 7) if there are faces; then the frame as capture has sent it, if
    display wants pixels and the frame has them (`shape` is not None).
    """

    source: Name
    sequence: Index
    captured_ns: Moment
    time_s: float
    status: Status
    reason: Text
    file: Text
    faces: list[Face]
    shape: tuple[Side, Side, Literal[3]] | None
    fps: float  # of the source, nominal; 0: unknown
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

    slot: Name
    name: Name
    role: Role
    silent_s: float
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
    error: Text


class StatusReport(Message, frozen=True):
    """To the parent, a few times a second. Rates are over the time since the last report."""

    broker: Name
    started: bool
    finished: bool
    stopping: Text  # why, if it is
    interval_s: float
    sources: list[SourceReport]
    peers: list[PeerReport]
    steps: dict[Name, Index]  # frames by role since the start
    busy_ns: dict[Name, Nanoseconds]  # time in the steps by role since the start
    batches: dict[str, Index]  # crops in a batch -> how often, since the start
    latency_ns: list[Nanoseconds]  # of the frames written since the last report
    held_bytes: Index
    elapsed_s: float  # from the start of the run to the last frame written
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

CROP_BYTES: Final = FACE_SIZE * FACE_SIZE
PROBABILITIES_BYTES: Final = 4 * len(EMOTIONS)


def encode(message: Message, buffers: Sequence[Buffer] = ()) -> list[Buffer]:
    """Return the parts of a multipart message: the header and the raw buffers."""
    return [_encoder.encode(message), *buffers]


def decode(parts: Sequence[Buffer]) -> tuple[AnyMessage, Sequence[Buffer]]:
    """Return the message and its buffers.

    Raises MessageError if the header is not one of ours or the buffers are not what it announces.
    """
    if not parts:
        raise MessageError("a message without parts")
    try:
        message: AnyMessage = _decoder.decode(parts[0])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:  # the latter: a name that is no UTF-8
        raise MessageError(f"header: {error}") from error
    buffers = parts[1:]
    _check(message, [len(b) if isinstance(b, bytes) else b.nbytes for b in buffers])
    return message, buffers


def _check(message: AnyMessage, sizes: list[int]) -> None:
    """Raise MessageError unless lengths, counts and numbers agree."""
    kind = type(message).__name__
    if isinstance(message, ClassifyWork):
        if sum(sizes) != message.crops * CROP_BYTES or any(n % CROP_BYTES for n in sizes):
            raise MessageError(f"{kind}: {message.crops} crops announced, {sum(sizes)} bytes found")
        return
    if isinstance(message, Written):
        if len(sizes) < len(message.latency_ns):
            raise MessageError(f"{kind}: {len(message.latency_ns)} latencies of {len(sizes)} records")
        return
    expected = _expected_sizes(message)
    if isinstance(message, Frame | DetectWork | Delivery) and message.encoding == "jpeg" and message.shape:
        most = math.prod(message.shape) + JPEG_OVERHEAD
        if len(sizes) != len(expected) or not 1 <= sizes[-1] <= most:
            raise MessageError(f"{kind}: a JPEG of at most {most} bytes expected, {sizes} found")
        sizes, expected = sizes[:-1], expected[:-1]
    if sizes != expected:
        raise MessageError(f"{kind}: buffers of {expected} bytes expected, {sizes} found")
    if isinstance(message, Detected | Delivery):
        for face in message.faces:
            _check_face(kind, face)
    if isinstance(message, Frame | NoFrame | Delivery) and not math.isfinite(message.time_s):
        raise MessageError(f"{kind}: time_s is {message.time_s}")


def _expected_sizes(message: AnyMessage) -> list[int]:
    match message:
        case Frame(shape=shape) | DetectWork(shape=shape):
            return [math.prod(shape)]
        case Detected(faces=faces):
            return [len(faces) * CROP_BYTES]
        case Classified(crops=crops):
            return [crops * PROBABILITIES_BYTES]
        case Delivery(faces=faces, shape=shape):
            sizes = [len(faces) * PROBABILITIES_BYTES] if faces else []
            return sizes if shape is None else [*sizes, math.prod(shape)]
        case _:
            return []


def _check_face(kind: str, face: Face) -> None:
    x, y, width, height = face.box_px
    if not all(map(math.isfinite, (x, y, width, height, face.score))):
        raise MessageError(f"{kind}: a box or score is not finite")
    if width <= 0 or height <= 0 or max(abs(x), abs(y), width, height) > 2 * MAX_SIDE:
        raise MessageError(f"{kind}: a box of {width}×{height} px at {x}, {y}")
