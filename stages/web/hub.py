"""What viewers get, without sockets: the newest frame of each source, and who waits for which."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from pipeline.wire.messages import MAX_SOURCES
from pipeline.wire.page_link import Picture
from stages.web.visitors import Camera, Visitors

ASK_AGAIN_S: Final = 0.5
"""A request may be lost with the display that it was sent to."""

MISSED_MAX: Final = 1000
"""Records that a program which reads them may lag; it is told how many it misses."""

LATENCIES: Final = 300
"""Frames of a source that its running percentiles are of."""


class RecordHead(msgspec.Struct):
    """What the page's process needs of a record."""

    source: str
    frame: int
    status: str
    latency_ms: float


class Viewer:
    """Whoever is sent frames: it asks for the next one when it has dealt with the last."""

    def __init__(self) -> None:
        self.wanted: set[str] = set()  # sources whose next frame is waited for
        self.ready: dict[str, None] = {}  # sources whose frame has come, in this order
        self.seen: set[str] = set()  # sources of which it has had a frame
        self.status_changed = True
        self.changed = asyncio.Event()
        self.camera = Camera(self.changed)


class Reader:
    """A program that reads the records."""

    def __init__(self) -> None:
        self.records: deque[bytes] = deque()
        self.missed = 0
        self.changed = asyncio.Event()


class Hub:
    """Frames and records from display, for all viewers and readers."""

    def __init__(self, request: Callable[[str], Awaitable[None]], visitors: Visitors) -> None:
        """`request` asks display for the next frame of a source; `visitors` says who may see what."""
        self._request = request
        self._visitors = visitors
        self._frame: dict[str, int] = {}  # by source, the number of its newest picture
        self._requested_s: dict[str, float] = {}
        self.viewers: set[Viewer] = set()
        self.readers: set[Reader] = set()
        self.latest: dict[str, Picture] = {}
        self.latency_ms: dict[str, deque[float]] = {}
        self.over = False

    async def want(self, viewer: Viewer, source: str) -> None:
        """A viewer asks for the next frame of a source; its first is the newest there is."""
        if source in self.latest and source not in viewer.seen and self.may_see(viewer, source):
            viewer.ready[source] = None
            viewer.changed.set()
            return
        viewer.wanted.add(source)
        await self._ask(source)

    def may_see(self, viewer: Viewer, source: str) -> bool:
        """Whether a viewer may see the newest picture of a source."""
        return self._visitors.may_see(source, viewer.camera, self._frame.get(source, -1))

    async def ask_again(self) -> None:
        """Repeat requests that were not answered."""
        for source in {source for viewer in self.viewers for source in viewer.wanted}:
            await self._ask(source)

    async def _ask(self, source: str) -> None:
        now_s = time.monotonic()
        if now_s - self._requested_s.get(source, 0.0) >= ASK_AGAIN_S:
            self._requested_s[source] = now_s
            await self._request(source)

    def put_picture(self, picture: Picture) -> None:
        """A frame has come."""
        head = msgspec.json.decode(picture.record, type=RecordHead)
        source = head.source
        if source not in self.latest and len(self.latest) >= MAX_SOURCES:
            oldest = next(iter(self.latest))
            del self.latest[oldest], self._frame[oldest]
        self.latest[source], self._frame[source] = picture, head.frame
        self._requested_s.pop(source, None)
        for viewer in self.viewers:
            if source in viewer.wanted and self.may_see(viewer, source):
                viewer.wanted.discard(source)
                viewer.ready[source] = None
                viewer.changed.set()

    def put_record(self, record: bytes) -> None:
        """A record has come."""
        head = msgspec.json.decode(record, type=RecordHead)
        if head.source not in self.latency_ms and len(self.latency_ms) >= MAX_SOURCES:
            self.latency_ms.pop(next(iter(self.latency_ms)))
        latencies = self.latency_ms.setdefault(head.source, deque(maxlen=LATENCIES))
        if head.status == "ok":
            latencies.append(head.latency_ms)
        if head.source in self._visitors.places:  # nobody's business but the visitor's
            return
        for reader in self.readers:
            reader.records.append(record)
            if len(reader.records) > MISSED_MAX:
                reader.records.popleft()
                reader.missed += 1
            reader.changed.set()

    def put_status(self) -> None:
        """The status has changed."""
        for viewer in self.viewers:
            viewer.status_changed = True
            viewer.changed.set()

    def end(self) -> None:
        """The run is over: everyone is told, and nobody waits any more."""
        self.over = True
        for viewer in self.viewers:
            viewer.changed.set()
        for reader in self.readers:
            reader.changed.set()
