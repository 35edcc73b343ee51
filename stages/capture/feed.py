"""What the feeds of both kinds of source do: number the frames, answer the broker, send in order."""

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.wire.messages import (
    Accept,
    AnyMessage,
    Buffer,
    Committed,
    Encoding,
    End,
    Frame,
    Grant,
    Message,
    NoFrame,
    RequestHello,
    SourceEnded,
    SourceInfo,
    StopCapture,
)
from stages.capture.reader import TimedFrame
from stages.capture.spec import CaptureOptions
from stages.image_codec import FrameWriter, to_jpeg

POLL_MS: Final = 200
RETRY_MS: Final = 10  # after a send that found the socket's buffer full

log = logging.getLogger(__name__)


class Conversation(Protocol):
    """What a feed needs of `pipeline.wire.session.Session`."""

    def receive(self, timeout_ms: int) -> tuple[AnyMessage, Sequence[Buffer]] | None: ...

    def send(self, message: Message, buffers: Sequence[Buffer] = ()) -> bool: ...

    def beat(self) -> None: ...

    @property
    def offset_ns(self) -> int: ...


class OutgoingFrame(NamedTuple):
    """A numbered frame and its pixels, if it brings any."""

    header: Frame | NoFrame
    buffers: list[Buffer]


class SharedFrames:
    """Frames of this source in shared memory; each has its place until its record is written."""

    def __init__(self, writer: FrameWriter | None) -> None:
        self._writer = writer
        self._first: int | None = None  # frames before this one are of an earlier process
        self._open: deque[tuple[int, str]] = deque()  # sequence and name

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, first: int) -> None:
        """Note which frame is this process's first; the first broker that it meets tells."""
        if self._first is None:
            self._first = first

    def write(self, sequence: int, image: NDArray[np.uint8]) -> str | None:
        """Copy a frame (height, width, 3) there; return its name, None where there is no room."""
        name = self._writer.write(image) if self._writer is not None else None
        if name is not None:
            self._open.append((sequence, name))
        return name

    def release(self, before: int) -> None:
        """Use the memory of all frames before a number again."""
        if self._writer is None:
            return
        if self._first is not None and before >= self._first:
            self._writer.free_predecessor()
        while self._open and self._open[0][0] < before:
            self._writer.free(self._open.popleft()[1])


class Feed(ABC):
    """One source's frames, from the reader to the broker."""

    def __init__(
        self, info: SourceInfo, options: CaptureOptions, max_frame_bytes: int, writer: FrameWriter | None
    ) -> None:
        """writer: of frames in shared memory; None: this process shares none."""
        self.info = info
        self.options = options
        self.max_frame_bytes = max_frame_bytes
        self.committed = Committed()
        self.epoch = 0
        self.next_sequence = 0
        self.credits = 0
        self.encoding: Encoding = "raw"  # as the broker wants frames
        self.accepted = False
        self.ended: str | None = None  # why the source ended: empty if it just did
        self.over = False
        self._end_told = False
        self._unsent: deque[OutgoingFrame] = deque()
        self._shared = SharedFrames(writer)

    @abstractmethod
    def turn(self, session: Conversation) -> None:
        """Take in messages and send what may be sent; return soon, so that heartbeats go on."""

    @abstractmethod
    def on_accept(self, message: Accept) -> None:
        """Bring the numbering into line with a broker that may be new, or with a run that goes on."""

    @abstractmethod
    def granted(self) -> None:
        """`credits` have grown, or `committed` has."""

    @abstractmethod
    def suspend(self) -> None:
        """Hold nothing that others wait for, or that times out, while this process is stopped."""

    @abstractmethod
    def close(self) -> bool:
        """Give back what the source holds; False if that hangs."""

    def listen(self, session: Conversation, timeout_ms: int) -> bool:
        """Take in one message if there is one."""
        received = session.receive(timeout_ms)
        if received is None:
            return False
        match received[0]:
            case RequestHello():
                self.credits, self.accepted = 0, False
            case Accept() as message:
                self.epoch, self.accepted = message.epoch, True
                self._shared.begin(message.next_sequence)
                self.credits, self._end_told = 0, False
                self._unsent.clear()
                self.on_accept(message)
                self._advance(message.committed.get(self.info.name, self.committed))
            case Grant(_, credits, committed, encoding):
                self.credits += credits
                self.encoding = encoding
                self._advance(committed)
            case StopCapture():
                self.end("")
            case End():
                self.over = True
        return True

    def _advance(self, committed: Committed) -> None:
        """Release the frames whose records are written."""
        self.committed = committed
        self._shared.release(committed.offset)
        self.granted()

    def end(self, error: str) -> None:
        """No more frames are captured; the first reason counts."""
        if self.ended is None:
            self.ended = error
            if error:
                log.error("%s", error)

    def send(self, session: Conversation) -> None:
        """Send what may be sent, in order, and after the last frame that the source has ended.

        Once it has ended, frames need no credit: a broker that is stopping grants none.
        """
        if not self.accepted:
            return
        while self._unsent or self.queue_more():
            header, buffers = self._unsent[0]
            costs = self.costs_credit(header)
            if costs and self.credits <= 0 and self.ended is None:
                return
            captured_ns = header.captured_ns + session.offset_ns  # on the broker's clock
            sent = msgspec.structs.replace(header, epoch=self.epoch, captured_ns=captured_ns)
            if not session.send(sent, buffers):
                return  # its buffer is full: later
            self._unsent.popleft()
            self.credits -= costs
        if self.ended is not None and not self._end_told:
            told = SourceEnded(self.info.name, self.epoch, self.next_sequence, self.ended)
            self._end_told = session.send(told)

    @abstractmethod
    def costs_credit(self, header: Frame | NoFrame) -> bool:
        """Whether the broker counts this frame against the credits it has granted."""

    def queue_more(self) -> bool:
        """Put more into an empty line of what is to be sent, if there is more."""
        return False

    def number(self, picture: TimedFrame, captured_ns: int) -> OutgoingFrame:
        """Give a picture the next number, and its pixels the form in which the broker wants them."""
        image, reason = picture.image, picture.reason
        if image is not None and image.nbytes > self.max_frame_bytes:
            image, reason = None, "larger than broker.max_message_bytes"
        where = self.info.name, self.epoch, self.next_sequence, captured_ns, picture.time_s
        self.next_sequence += 1
        if image is None:
            return OutgoingFrame(NoFrame(*where, "failed", reason, picture.file), [])
        height, width = image.shape[:2]
        encoding, pixels = self._encoded(image, where[2])
        return OutgoingFrame(Frame(*where, (height, width, 3), picture.file, encoding), [pixels])

    def _encoded(self, image: NDArray[np.uint8], sequence: int) -> tuple[Encoding, Buffer]:
        """Return the pixels in the form that the broker wants; raw where shared memory has no room."""
        if self.encoding == "jpeg":
            return "jpeg", to_jpeg(image, self.options.jpeg_quality)
        if self.encoding == "shared" and (name := self._shared.write(sequence, image)) is not None:
            return "shared", name.encode()
        return "raw", image.data.cast("B")
