"""The page's addresses: its files, the live WebSocket, and what programs read."""

import asyncio
import json
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import WSMsgType, web

from pipeline.wire.page_link import Picture
from stages.web.guard import Allowance, Guard, add_headers
from stages.web.hub import Hub, Reader, Viewer
from stages.web.status import prometheus

STATIC: Final = Path(__file__).parent / "static"
FILES: Final = {f"/{name}": name for name in ("app.js", "style.css", "favicon.svg")} | {"/": "index.html"}

MAX_CONNECTIONS: Final = 256
FIRST_REQUEST_S: Final = 10.0
"""A connection that has not asked for anything by then is closed."""

MAX_VIEWERS: Final = 50
"""Open pages and MJPEG streams."""

MAX_READERS: Final = 20
MAX_MESSAGE_BYTES: Final = 4096
MESSAGES_A_S: Final = 500.0
"""Of one page: it asks 60 times a second at most for each source."""

PING_S: Final = 10.0
"""A page that doesn't answer is closed after one and a half of these."""

PICTURE_S: Final = 5.0
"""How long a program that asks for one picture waits for it."""

BOUNDARY: Final = "frame"

StatusSource = Callable[[], dict[str, Any]]


class Ask(msgspec.Struct, forbid_unknown_fields=True):
    """What a page sends: it wants the next frame of a source."""

    next: str


class Server:
    """The handlers. `status` gives what the page shows of the run."""

    def __init__(self, hub: Hub, status: StatusSource) -> None:
        self._hub = hub
        self._status = status

    def routes(self) -> list[web.RouteDef]:
        return [
            *(web.get(path, self._file) for path in FILES),
            web.get("/api/live", self._live),
            web.get("/api/results", self._results),
            web.get("/api/snapshot.jpg", self._snapshot),
            web.get("/api/stream.mjpg", self._stream),
            web.get("/api/status", self._status_json),
            web.get("/metrics", self._metrics),
        ]

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(STATIC / FILES[request.path], headers={"Cache-Control": "no-cache"})

    # ---------------------------------------------------------------------------------------- the live page

    async def _live(self, request: web.Request) -> web.StreamResponse:
        """Send status and frames to one page, each frame when the page has asked for it."""
        async with self._viewer() as viewer:
            socket = web.WebSocketResponse(heartbeat=PING_S, max_msg_size=MAX_MESSAGE_BYTES, compress=False)
            await socket.prepare(request)
            sending = asyncio.ensure_future(self._send(socket, viewer))
            try:
                await self._take(socket, viewer)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
            return socket

    async def _take(self, socket: web.WebSocketResponse, viewer: Viewer) -> None:
        """Take in what the page asks for; one that sends anything else is closed."""
        allowance = Allowance(MESSAGES_A_S, MESSAGES_A_S)
        async for message in socket:
            if message.type is not WSMsgType.TEXT or not allowance.take("", time.monotonic()):
                await socket.close(code=1008, message=b"not expected")
                return
            try:
                source = msgspec.json.decode(message.data, type=Ask).next
            except msgspec.MsgspecError:
                await socket.close(code=1008, message=b"not expected")
                return
            if source in self._names():
                await self._hub.want(viewer, source)

    async def _send(self, socket: web.WebSocketResponse, viewer: Viewer) -> None:
        """Send what is new whenever there is room: of each source its newest frame."""
        while True:
            await viewer.changed.wait()
            viewer.changed.clear()
            if viewer.status_changed:
                viewer.status_changed = False
                await socket.send_str(json.dumps(self._status()))
            while viewer.ready:
                source = next(iter(viewer.ready))
                del viewer.ready[source]
                viewer.seen.add(source)
                await socket.send_bytes(_packed(self._hub.latest[source]))
            if self._hub.over and not viewer.status_changed:
                await socket.close(code=1001, message=b"the run is over")
                return

    @asynccontextmanager
    async def _viewer(self) -> AsyncIterator[Viewer]:
        if len(self._hub.viewers) >= MAX_VIEWERS:
            raise web.HTTPServiceUnavailable(text=f"{MAX_VIEWERS} viewers are here already\n")
        viewer = Viewer()
        viewer.changed.set()
        self._hub.viewers.add(viewer)
        try:
            yield viewer
        finally:
            self._hub.viewers.discard(viewer)

    # ---------------------------------------------------------------------------------------- for programs

    async def _results(self, request: web.Request) -> web.StreamResponse:
        """Send each record as a server-sent event, from now on."""
        if len(self._hub.readers) >= MAX_READERS:
            raise web.HTTPServiceUnavailable(text=f"{MAX_READERS} programs read the results already\n")
        reader = Reader()
        self._hub.readers.add(reader)
        try:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            while not self._hub.over or reader.records:
                await self._send_records(response, reader)
            return response
        except ConnectionError:
            return response
        finally:
            self._hub.readers.discard(reader)

    async def _send_records(self, response: web.StreamResponse, reader: Reader) -> None:
        try:
            async with asyncio.timeout(PING_S):
                await reader.changed.wait()
        except TimeoutError:
            await response.write(b": nothing new\n\n")  # a reader that is gone is noticed
            return
        reader.changed.clear()
        if reader.missed:
            missed, reader.missed = reader.missed, 0
            await response.write(b'event: missed\ndata: {"records": %d}\n\n' % missed)
        lines = [b"data: %s\n\n" % record for record in reader.records]
        reader.records.clear()
        await response.write(b"".join(lines))

    async def _snapshot(self, request: web.Request) -> web.StreamResponse:
        """Answer with the next frame, as it was filmed."""
        async with self._viewer() as viewer:
            source = await self._source(request, viewer)
            picture = await self._next(viewer, source)
        if picture is None:
            raise web.HTTPServiceUnavailable(text=f"{source}: no picture within {PICTURE_S:.0f} s\n")
        return web.Response(body=picture.jpeg, content_type="image/jpeg")

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Answer with frames without end (MJPEG). On a slow line they queue up in the network."""
        async with self._viewer() as viewer:
            source = await self._source(request, viewer)
            kind = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
            response = web.StreamResponse(headers={"Content-Type": kind})
            await response.prepare(request)
            try:
                while not self._hub.over:
                    picture = await self._next(viewer, source)
                    if picture is not None:
                        await response.write(_part(picture.jpeg))
            except ConnectionError:
                pass
            return response

    async def _next(self, viewer: Viewer, source: str) -> Picture | None:
        """Return the next frame of a source; None if none came in time."""
        viewer.seen.add(source)  # so that the newest known, which may be old, is not taken
        await self._hub.want(viewer, source)
        try:
            async with asyncio.timeout(PICTURE_S):
                while source not in viewer.ready and not self._hub.over:
                    viewer.changed.clear()
                    await viewer.changed.wait()
        except TimeoutError:
            return None
        return self._hub.latest[source] if viewer.ready.pop(source, 0) is None else None

    async def _status_json(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self._status())

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        text = prometheus(self._status(), len(self._hub.viewers))
        return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    def _names(self) -> list[str]:
        return [source["name"] for source in self._status()["sources"]]

    async def _source(self, request: web.Request, viewer: Viewer) -> str:
        """Return the source that a request names; without a name the first one.

        This process may be there before it has heard of any source; the first one is waited for.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(PICTURE_S):
                while not self._names() and not self._hub.over:
                    viewer.changed.clear()
                    await viewer.changed.wait()
        names = self._names()
        source = request.query.get("source", names[0] if names else "")
        if source not in names:
            known = ", ".join(names) or "no source yet"
            raise web.HTTPNotFound(text=f"source: expected one of {known}; found {source!r}\n")
        return source


def _packed(picture: Picture) -> bytes:
    """Return a frame as the page reads it: a head, the record (JSON), the JPEG.

    The head is little-endian: the record's length, and width and height of the source's frame, px.
    """
    head = struct.pack("<III", len(picture.record), picture.width, picture.height)
    return head + picture.record + picture.jpeg


def _part(jpeg: bytes) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
    return head.encode() + jpeg + b"\r\n"


class _Closed(asyncio.Protocol):
    """What a connection too many meets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class Connections:
    """The open connections: there is a limit to them, and to how long one may be idle at first."""

    def __init__(self, runner: web.AppRunner) -> None:
        self._runner = runner
        self._silent: set[object] = set()

    def __call__(self) -> asyncio.Protocol:
        server = self._runner.server
        if server is None or len(server.connections) >= MAX_CONNECTIONS:
            return _Closed()
        made = server()
        self._silent.add(made)
        asyncio.get_running_loop().call_later(FIRST_REQUEST_S, self._close_silent, made)
        return made

    def _close_silent(self, made: Any) -> None:
        if made in self._silent:
            self._silent.discard(made)
            made.force_close()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """A connection that has asked for something is not idle."""
        self._silent.discard(request.protocol)
        answer: web.StreamResponse = await handler(request)
        return answer


def make_app(server: Server, guard: Guard) -> web.Application:
    """Return the application; it serves nothing yet."""
    app = web.Application(middlewares=[guard.middleware], client_max_size=MAX_MESSAGE_BYTES)
    app.add_routes([*server.routes(), web.post("/api/login", guard.login)])
    app.on_response_prepare.append(add_headers)
    return app
