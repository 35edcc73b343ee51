"""The links of the web page's process with display, and with the captures of visitors' cameras.

Their sockets are in the run's own directory. No side waits for another: display sends records, and frames on
request; records for which there is no room are dropped. A capture requests a visitor's next picture, and gets
it when there is one.
"""

import contextlib
from collections.abc import Iterator
from typing import Final, NamedTuple

import zmq
import zmq.asyncio

from pipeline.wire.messages import Buffer

RECORDS: Final = 512
"""Records that may wait for a busy page: some ten seconds of one source."""

REQUESTS: Final = 64


class Picture(NamedTuple):
    """A record for the page, with its frame if that was requested."""

    record: bytes  # JSON
    jpeg: bytes  # may be smaller than the source's frame; empty: the record alone


class _Dealer:
    """An end for one thread. It connects without waiting, and again to a page's process that is restarted."""

    def __init__(self, address: str, most_sent: int) -> None:
        """`most_sent`: messages that may wait to be sent."""
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)  # queue nothing while the page is away
        self._socket.setsockopt(zmq.SNDHWM, most_sent)
        self._socket.setsockopt(zmq.RCVHWM, REQUESTS)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 100)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(address)

    def _send(self, parts: list[Buffer]) -> None:
        with contextlib.suppress(zmq.Again):  # the page is busy or away
            self._socket.send_multipart(parts, zmq.NOBLOCK)

    def close(self) -> None:
        self._socket.close()
        self._context.term()


class _Router:
    """An end of the page's process, for an asyncio loop."""

    def __init__(self, address: str, most_received: int) -> None:
        """`most_received`: messages of each peer that may wait to be read."""
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.SNDHWM, REQUESTS)
        self._socket.setsockopt(zmq.RCVHWM, most_received)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(address)

    def close(self) -> None:
        self._socket.close()
        self._context.term()


class DisplayEnd(_Dealer):
    """Display's end, for one thread."""

    def __init__(self, address: str) -> None:
        """Connect to `address`, ipc, without waiting."""
        super().__init__(address, RECORDS)

    def send(self, record: bytes, jpeg: Buffer = b"") -> None:
        self._send([record, jpeg])

    def requests(self) -> Iterator[str]:
        """Yield the sources whose next frame the page requests."""
        while True:
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            yield parts[0].decode()


class PageEnd(_Router):
    """The page's end of the link with display."""

    def __init__(self, address: str) -> None:
        """Bind `address`, ipc."""
        super().__init__(address, RECORDS)
        self._display = b""  # identity of the present display

    async def receive(self) -> Picture:
        """Wait for the next message of display."""
        identity, record, jpeg = await self._socket.recv_multipart()
        if not jpeg:  # frames come from a thread, which is sent no requests
            self._display = identity
        return Picture(record, jpeg)

    async def request(self, source: str) -> None:
        """Request a source's next frame. A request may be lost with display, and may be repeated."""
        if self._display:
            await self._socket.send_multipart([self._display, source.encode()])


class VisitorFrame(NamedTuple):
    """A picture of a visitor's camera."""

    number: int  # from 1; a number that is left out is a picture that a newer one has replaced
    jpeg: bytes


class Wanted(NamedTuple):
    """A capture wants the next picture of its visitor."""

    source: str
    number: int  # of the last picture that it has taken; 0: none yet
    trouble: str  # what was wrong with that one


class CaptureEnd(_Dealer):
    """The end of a capture of a visitor's camera, for one thread."""

    def __init__(self, address: str, source: str) -> None:
        """Connect to `address`, ipc, without waiting."""
        super().__init__(address, REQUESTS)
        self._source = source.encode()

    def want(self, number: int, trouble: str = "") -> None:
        """Ask for the next picture; to be repeated now and then, since the other end may be a new one."""
        self._send([self._source, b"%d" % number, trouble.encode()])

    def take(self, timeout_ms: int) -> list[VisitorFrame]:
        """Wait for a picture; return all that have come."""
        came: list[VisitorFrame] = []
        while self._socket.poll(0 if came else timeout_ms):
            number, jpeg = self._socket.recv_multipart(zmq.NOBLOCK)
            came.append(VisitorFrame(int(number), jpeg))
        return came


class VisitorsEnd(_Router):
    """The page's end of the links with the captures of visitors' cameras."""

    def __init__(self, address: str) -> None:
        """Bind `address`, ipc."""
        super().__init__(address, REQUESTS)
        self._captures: dict[str, bytes] = {}  # source -> identity of the capture that is there now

    async def receive(self) -> Wanted:
        """Wait for a capture that wants a picture."""
        identity, source, number, trouble = await self._socket.recv_multipart()
        wanted = Wanted(source.decode(), int(number), trouble.decode())
        self._captures[wanted.source] = identity
        return wanted

    async def send(self, source: str, number: int, jpeg: bytes) -> None:
        """Give a capture a picture; it may be lost with a capture that has just died."""
        if source in self._captures:
            await self._socket.send_multipart([self._captures[source], b"%d" % number, jpeg])
