"""The messages between the broker and the stages; `codec.py` encodes them.

A message is a small typed header and raw buffers: frames and arrays. Nothing is pickled.

A frame's name is `(source, sequence)`; `epoch` counts the starts of its capture process. Times are
nanoseconds of the broker's CLOCK_MONOTONIC; remote stages estimate the offset of their own clock
(`session.py`).
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

# What a message may hold at most, so that no peer can make another one hold more. msgspec checks these bounds
# as it decodes. Not-a-number is out of every range.

MAX_HEADER_BYTES: Final = 1536 * 1024
"""The longest header that is decoded. With texts of the greatest length, in characters of four bytes, the
hello of a display with MAX_SOURCES sources has 0.6 MB, and the report of a run with MAX_PEERS stages 1.2
MB."""

MAX_PARTS: Final = 1 + 1024
"""A header and, of a batch for classification, the items of MAX_BATCH frames."""

MAX_BATCH: Final = 1024

MAX_ITEMS: Final = 5000
"""Items, such as faces, of one frame: as many as YuNet has candidates."""

MAX_ARRAYS: Final = 16
"""Arrays that a step gives, or that all steps give of one frame."""

MAX_DIMENSIONS: Final = 4

MAX_SOURCES: Final = 64
MAX_PEERS: Final = 256
MAX_WINDOW: Final = 1024
"""Frames of a source without a written record: the largest `broker.file_window`, and how many outcomes of a
live source are kept while display is away."""

MAX_REASONS: Final = 16
"""Different reasons for which one source's frames are dropped."""

MAX_REASON_LENGTH: Final = 64

MAX_RECORDS: Final = 64
MAX_RECORD_BYTES: Final = 4 * 1024 * 1024
"""A record of MAX_ITEMS faces has 1.7 MB."""

MAX_IN_VIEW: Final = 8
"""Items of a source, such as faces, that a report names."""

MAX_LATENCIES: Final = 4096
MAX_ERROR: Final = 500  # characters of why a source ended
MAX_SIDE: Final = 16_384
"""Longest side of a frame, px: room for 8K video and large photographs."""

LABEL_LENGTH: Final = 64

Label = Annotated[str, Meta(min_length=1, max_length=LABEL_LENGTH)]
Name = Annotated[str, Meta(min_length=1, max_length=1024)]
Reason = Annotated[str, Meta(min_length=1, max_length=MAX_REASON_LENGTH)]
Text = Annotated[str, Meta(max_length=4096)]
Index = Annotated[int, Meta(ge=0, le=2**53)]
Frames = Annotated[int, Meta(ge=0, le=2**40)]  # sums of a few fit 64 bits
Nanoseconds = Annotated[int, Meta(ge=0, le=2**62)]
Moment = Annotated[int, Meta(ge=-(2**62), le=2**62)]  # ns; negative: before the machine's boot
Duration = Annotated[int, Meta(ge=0, le=10**13)]  # ns: up to 2.8 hours, so that sums of many fit 64 bits
Count = Annotated[int, Meta(ge=0, le=100_000)]
Items = Annotated[int, Meta(ge=0, le=MAX_ITEMS)]
Credits = Annotated[int, Meta(ge=0, le=64)]
Side = Annotated[int, Meta(ge=1, le=MAX_SIDE)]
Shape = tuple[Side, Side, Literal[3]]
Seconds = Annotated[float, Meta(ge=-1e15, le=1e15)]  # time stamps of broken videos too
Probability = Annotated[float, Meta(ge=0, le=1)]
Rate = Annotated[float, Meta(ge=0, le=100_000)]

# ---------------------------------------------------------------------------------- what they have in common

PROTOCOL: Final = 8
"""Increased whenever a message changes; peers of another protocol are refused."""

Buffer = bytes | memoryview
Role = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,31}$")]
"""capture, display and supervisor have their own messages, web is sent reports; any other role is a step."""

DType = Literal["uint8", "float32", "float64"]
SourceKind = Literal["live", "file"]
Status = Literal["ok", "dropped", "failed"]
Encoding = Literal["raw", "jpeg", "shared"]


class MessageError(ValueError):
    """The bytes are not a message of this protocol."""


class Message(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Base of all messages; the class name travels as the tag. `codec.py` decodes every subclass."""


class Committed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of a source is committed: the record of each frame before `offset` is written."""

    offset: Frames = 0
    ok: Frames = 0
    failed: Frames = 0
    dropped: Annotated[dict[Reason, Frames], Meta(max_length=MAX_REASONS)] = {}  # by reason


class InView(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An item that display is showing, in the words in which it is shown."""

    track: Index
    label: Label
    confidence: Probability | None  # None: it is shown without one


Shown = Annotated[list[InView], Meta(max_length=MAX_IN_VIEW)]
Outcomes = Annotated[dict[Name, Committed], Meta(max_length=MAX_SOURCES)]


class SourceInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A source, once its capture process has opened it."""

    name: Name  # unique in the run, without credentials
    kind: SourceKind
    width: Side  # px, of the first frame
    height: Side
    fps: Rate  # nominal; 0: unknown
    frames: Frames = 0  # that a file announces, for the display only; 0: unknown


class Array(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A buffer with an array in C order; its first axis is the items of a frame, such as faces."""

    name: Label
    dtype: DType
    shape: Annotated[list[Index], Meta(min_length=1, max_length=MAX_DIMENSIONS)]


Arrays = Annotated[list[Array], Meta(max_length=MAX_ARRAYS)]


# ------------------------------------------------------------------------------------- from the stages


class Hello(Message, frozen=True):
    """First message of every stage, sent when it is ready to work, and again to a new broker."""

    role: Role
    name: Label  # as in the log: detect-1
    instance: Label  # a secret id of the process, the same after a restart
    pid: Index
    protocol: int
    credits: Credits = 0  # pieces of work that may be under way at this worker
    fingerprint: Text = ""  # of the model and its labels: workers of one role must agree
    source: SourceInfo | None = None  # capture
    wants_pixels: bool = False  # display
    watched: bool = False  # display: people look at it, so files play at their own rate
    committed: Outcomes = {}  # by source; display and capture: what they know to be written
    remote: bool = False  # the broker is on another machine
    frames: Text = ""  # where it shares the memory of frames; empty: nowhere


class AnyHello(msgspec.Struct, frozen=True, tag="Hello"):
    """The fields that a hello begins with in every protocol, so that another version can be refused."""

    role: Role
    name: Name
    instance: Name
    pid: Index
    protocol: int


class Heartbeat(Message, frozen=True):
    """Sent by the loop that does the work, so that a stage that hangs falls silent.

    With it a remote stage requests the broker's time (`Clock`), and reports its clock's offset.
    """

    sent_ns: Nanoseconds = 0  # on the stage's clock; 0: the time is not wanted
    offset_ns: Moment = 0  # the broker's clock less the stage's
    error_ns: Nanoseconds = 0  # by which the offset may be wrong


class Frame(Message, frozen=True):
    """A captured frame of `shape` (height, width, 3), uint8, BGR. Buffer: its pixels, as `encoding` says.

    raw: the pixels. jpeg: a JPEG of them. shared: their name in memory that the run's processes share. A
    frame that was dropped before it was sent, or is unreadable, has no shape and no buffer.
    """

    source: Name
    epoch: Index
    sequence: Index
    captured_ns: Moment
    time_s: Seconds  # place in the video, or since the first frame of a live source
    shape: Shape | None
    file: Text = ""  # of a folder's picture
    encoding: Encoding = "raw"
    status: Status = "ok"  # not of a frame without pixels
    reason: Annotated[str, Meta(max_length=1024)] = ""


class SourceEnded(Message, frozen=True):
    """A source has no more frames. `error` says why if it ended early.

    From the supervisor: its capture process can't be kept alive; `epoch` and `frames` mean nothing then.
    """

    source: Name
    epoch: Index
    frames: Index  # all that were captured: the next sequence
    error: Text = ""


class Result(Message, frozen=True):
    """Answer to `Work`: the items found in a frame, or results for items. Buffers: `arrays`."""

    broker: Label
    work: Index
    items: Items
    arrays: Arrays
    step_ns: Duration


class StepFailed(Message, frozen=True):
    """Answer to `Work` that could not be done: its frames are `failed`."""

    broker: Label
    work: Index
    reason: Name


class Commit(Message, frozen=True):
    """From display: the records of `source` are written up to `committed.offset`.

    `latency_ns`: capture to written, of the records with status ok. `in_view`: what its newest frame shows;
    `more` items are left out. Buffers: the records, JSON.
    """

    source: Name
    committed: Committed
    latency_ns: Annotated[list[Nanoseconds], Meta(max_length=MAX_RECORDS)]
    step_ns: Duration
    in_view: Shown = []
    more: Items = 0


class StopRequest(Message, frozen=True):
    """From display (`q`) or the supervisor: finish what is under way and end the run."""

    reason: Name


class Died(Message, frozen=True):
    """From the supervisor: the process of this instance is dead; its work goes to others."""

    instance: Label


class Goodbye(Message, frozen=True):
    """The stage ends in order; its work goes to others."""


# -------------------------------------------------------------------------------------- from the broker


class Clock(Message, frozen=True):
    """Answer to a `Heartbeat` with a time: that time, and the broker's when it arrived."""

    sent_ns: Nanoseconds
    broker_ns: Nanoseconds


class RequestHello(Message, frozen=True):
    """To a peer that the broker does not know: it must say hello (again)."""


class Accept(Message, frozen=True):
    """Answer to `Hello`: the stage takes part. `epoch` is for captures, `committed` for display as well."""

    broker: Label
    epoch: Index = 0
    next_sequence: Index = 0  # capture: what the broker wants next
    paced: bool = False  # capture: a file plays at its own rate
    committed: Outcomes = {}


class Refused(Message, frozen=True):
    """The peer may not take part: it prints the reason and ends."""

    reason: Text


class Grant(Message, frozen=True):
    """To a capture: it may send `credits` more frames; `committed` is what is written of its source."""

    source: Name
    credits: Count
    committed: Committed
    encoding: Encoding = "raw"  # for the next frames


class Work(Message, frozen=True):
    """A piece of work for one step. Buffers: `arrays`, then the frame as capture has sent it, if it is one.

    Of a frame: with what this step found last in the same source, where it is to search near that alone. Of
    items: the array that the step takes, in parts, since they come from several frames.
    """

    broker: Label
    work: Index
    items: Items = 0
    shape: Shape | None = None  # of the frame
    encoding: Encoding = "raw"
    arrays: Annotated[list[Array], Meta(max_length=MAX_BATCH)] = []


class Delivery(Message, frozen=True):
    """An outcome for display, in order within its source.

    Buffers: `arrays`, what the steps have found out of the frame's items; then the frame as capture has sent
    it, if display wants pixels and the frame has them (`shape` is not None).
    """

    source: Name
    sequence: Index
    captured_ns: Moment
    time_s: Seconds
    status: Status
    reason: Text
    file: Text
    shape: Shape | None
    fps: Rate  # of the source, nominal; 0: unknown
    encoding: Encoding = "raw"
    items: Items = 0
    arrays: Arrays = []
    size: tuple[Side, Side] | None = None  # width and height of the frame, px; None: it brought no pixels


class EndOfSource(Message, frozen=True):
    """To display: the source has no more records."""

    source: Name


class End(Message, frozen=True):
    """The run is over: write what there is to write, close, and end with status 0."""


class StopCapture(Message, frozen=True):
    """To captures: take no more frames."""


class PeerReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One stage as the broker sees it."""

    instance: Label
    name: Label
    role: Role
    silent_s: Seconds
    timed_out: bool
    remote: bool = False  # the next two are its own words then
    offset_ns: Moment = 0
    error_ns: Nanoseconds = 0


class SourceReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One source as the broker sees it. captured = ok + dropped + failed + in_flight."""

    name: Name
    kind: SourceKind
    captured: Index
    in_flight: Index
    committed: Committed
    ended: bool
    error: Annotated[str, Meta(max_length=MAX_ERROR)]
    frames: Frames = 0  # that the source announces; 0: unknown
    in_view: Shown = []  # and `more` items
    more: Items = 0


class QueueReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What waits for a step."""

    waiting: Index  # frames, or items
    age_s: Seconds  # for how long the source, or the item, has waited that waits longest


ByRole = dict[Role, Nanoseconds]


class StatusReport(Message, frozen=True):
    """To supervisors and the web page, a few times a second. Rates are of the time since the last report."""

    broker: Label
    started: bool
    finished: bool
    stopping: Text  # why, if it is
    interval_s: Seconds
    sources: Annotated[list[SourceReport], Meta(max_length=MAX_SOURCES)]
    peers: Annotated[list[PeerReport], Meta(max_length=2 * MAX_PEERS)]
    steps: ByRole  # frames since the start
    busy_ns: ByRole  # time in the steps since the start
    batches: Annotated[dict[Items, Index], Meta(max_length=MAX_BATCH)]  # items in a batch -> how often
    latency_ns: Annotated[list[Nanoseconds], Meta(max_length=MAX_LATENCIES)]  # written since the last report
    held_bytes: Index
    elapsed_s: Seconds  # from the start of the run to the last frame written
    bad_messages: Index
    queues: dict[Role, QueueReport] = {}
