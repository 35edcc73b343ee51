"""The link between display and the web page's process: records and pictures one way, requests the other.

It lies in the run's own directory, so that nobody else reaches it. Neither side waits for the other: a
picture is sent only for a request, and of records those that find no room are left out.
"""

import contextlib
import json
from collections.abc import Iterator
from typing import Final, NamedTuple

import zmq
import zmq.asyncio

from pipeline.wire.messages import Buffer

RECORDS: Final = 512
"""Records that may wait for a page that is busy: some ten seconds of one source."""

REQUESTS: Final = 64

_RECORD: Final = b"record"
_PICTURE: Final = b"picture"


class Picture(NamedTuple):
    """A frame for the page."""

    record: bytes  # JSON
    width: int  # of the source's frame, px: the JPEG may be smaller
    height: int
    jpeg: bytes


class Record(NamedTuple):
    """A record for the page, without its frame."""

    record: bytes  # JSON


class DisplayEnd:
    """Display's end, for one thread."""

    def __init__(self, address: str) -> None:
        """Dial `address`, ipc; nothing is waited for, and a page that starts again is found again."""
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing is kept for a page that is not there
        self._socket.setsockopt(zmq.SNDHWM, RECORDS)
        self._socket.setsockopt(zmq.RCVHWM, REQUESTS)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 100)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(address)

    def send_record(self, record: bytes) -> None:
        self._send([_RECORD, record])

    def send_picture(self, record: bytes, width: int, height: int, jpeg: Buffer) -> None:
        self._send([_PICTURE, record, b"%d %d" % (width, height), jpeg])

    def _send(self, parts: list[Buffer]) -> None:
        with contextlib.suppress(zmq.Again):  # the page is busy or away
            self._socket.send_multipart(parts, zmq.NOBLOCK)

    def requests(self) -> Iterator[str]:
        """Yield the sources whose next frame the page asks for."""
        while True:
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            yield json.loads(parts[0])

    def close(self) -> None:
        self._socket.close()
        self._context.term()


class PageEnd:
    """The page's end, for an asyncio loop."""

    def __init__(self, address: str) -> None:
        """Bind `address`, ipc."""
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.SNDHWM, REQUESTS)
        self._socket.setsockopt(zmq.RCVHWM, RECORDS)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(address)
        self._display = b""  # identity of the display that is there now

    async def receive(self) -> Record | Picture:
        """Wait for what display sends."""
        while True:
            identity, kind, *parts = await self._socket.recv_multipart()
            if kind == _RECORD:
                self._display = identity
                return Record(parts[0])
            width, height = map(int, parts[1].split())
            return Picture(parts[0], width, height, parts[2])

    async def request(self, source: str) -> None:
        """Ask for the next frame of a source. Asking twice does no harm; one may be lost with display."""
        if self._display:
            await self._socket.send_multipart([self._display, json.dumps(source).encode()])

    def close(self) -> None:
        self._socket.close()
        self._context.term()
