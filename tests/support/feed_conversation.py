"""A stand-in for the session with the broker: what it says is laid out, what it hears is kept."""

from collections import deque
from collections.abc import Sequence
from typing import Any

from pipeline.config.sources import SourceSpec
from pipeline.wire.codec import decode, encode
from pipeline.wire.messages import Accept, Buffer, Committed, Encoding, Grant, Message, SourceKind
from stages.capture.feed import Feed
from stages.capture.spec import CaptureOptions, CaptureSettings


class FakeSession:
    """Time-outs pass at once."""

    def __init__(self) -> None:
        self.says: deque[Message] = deque()
        self.heard: list[Any] = []
        self.pixels: list[bytes] = []  # of each message heard
        self.waits_ms: list[int] = []
        self.offset_ns = 0
        self.room = 1_000_000  # messages that the socket's buffer takes

    def receive(self, timeout_ms: int) -> tuple[Message, Sequence[Buffer]] | None:
        if self.says:
            return self.says.popleft(), []
        self.waits_ms.append(timeout_ms)
        return None

    def send(self, message: Message, buffers: Sequence[Buffer] = ()) -> bool:
        if self.room <= 0:
            return False
        self.room -= 1
        decoded, parts = decode(
            [bytes(part) for part in encode(message, buffers)]
        )  # the broker would take it
        self.heard.append(decoded)
        self.pixels.append(b"".join(bytes(part) for part in parts))
        return True

    def beat(self) -> None:
        """The heart of a stand-in does not beat."""

    def take(self) -> list[Any]:
        heard, self.heard = self.heard, []
        return heard


def turn(feed: Feed, session: FakeSession, *says: Message, times: int = 1) -> list[Any]:
    """Let the broker say something, let the feed take so many turns, and return what was heard."""
    session.says.extend(says)
    for _ in range(len(says) + times):
        feed.turn(session)
    return session.take()


def accept(epoch: int = 1, next_sequence: int = 0, *, paced: bool = False) -> Accept:
    return Accept(f"broker-{epoch}", epoch, next_sequence, paced)


def grant(credits: int, written: int = 0, encoding: Encoding = "raw") -> Grant:
    return Grant("clip", credits, Committed(offset=written, ok=written), encoding)


def options(kind: SourceKind = "file", **settings: Any) -> CaptureOptions:
    spec = SourceSpec("0" if kind == "live" else "clip.mp4", "camera" if kind == "live" else "video", "clip")
    return CaptureOptions(spec, CaptureSettings(**settings))


def sequences(messages: list[Any]) -> list[int]:
    return [message.sequence for message in messages if hasattr(message, "sequence")]
