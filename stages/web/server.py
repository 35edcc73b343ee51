"""The page's addresses: its files, the live WebSocket, and what programs read."""

import asyncio
import json
import logging
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from aiohttp import WSMessage, WSMsgType, web
from msgspec import Meta

from pipeline.supervisor.metrics import CONTENT_TYPE, family
from pipeline.wire.page_link import Picture
from stages.web.guard import Allowance, Guard
from stages.web.hub import Hub, Reader, Viewer
from stages.web.visitors import MAX_JPEG_BYTES, BadPicture, Camera, Visitors

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

ONE_MORE: Final = '{"type":"picture"}'
"""A page whose camera is on may send one picture more."""

LINES_A_S, LINES_BURST = 0.1, 3.0
"""In the log, of pages that are dropped."""

log = logging.getLogger(__name__)


class Ask(msgspec.Struct, forbid_unknown_fields=True):
    """What a page sends, one of both: it wants a source's next frame, or its camera goes on or off."""

    next: str = ""
    camera: Literal["", "on", "off"] = ""
    key: Annotated[str, Meta(max_length=64)] = ""  # by which it is known if it comes back: a secret


class Server:
    """The handlers."""

    def __init__(
        self,
        hub: Hub,
        status: Callable[[], dict[str, Any]],
        names: Callable[[], list[str]],
        metrics: Callable[[], str],
        visitors: Visitors,
    ) -> None:
        """`status` gives what the page shows of the run, `names` its sources, `metrics` its figures."""
        self._hub = hub
        self._status = status
        self._names = names
        self._run_metrics = metrics
        self.visitors = visitors
        self._lines = Allowance(LINES_A_S, LINES_BURST)

    def routes(self) -> list[web.RouteDef]:
        return [
            *(web.get(path, self._file) for path in FILES),
            web.get("/api/live", self._live),
            web.get("/api/results", self._results),
            web.get("/api/snapshot.jpg", self._snapshot),
            web.get("/api/stream.mjpg", self._stream),
            web.get("/api/status", self._status_json),
            web.get("/metrics", self._metrics),
            web.get("/{path:.*}", self._nothing),
        ]

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(STATIC / FILES[request.path], headers={"Cache-Control": "no-cache"})

    async def _nothing(self, request: web.Request) -> web.StreamResponse:
        page = request.url.origin()
        raise web.HTTPNotFound(text=f"nothing is at {request.rel_url.raw_path}; the page is at {page}/\n")

    # ---------------------------------------------------------------------------------------- the live page

    async def _live(self, request: web.Request) -> web.StreamResponse:
        """Send status and frames to one page, each frame when the page has asked for it."""
        async with self._viewer() as viewer:
            limit = MAX_JPEG_BYTES if self.visitors.places else MAX_MESSAGE_BYTES
            socket = web.WebSocketResponse(heartbeat=PING_S, max_msg_size=limit, compress=False)
            await socket.prepare(request)
            sending = asyncio.ensure_future(self._send(socket, viewer))
            try:
                await self._take(socket, viewer)
            finally:
                sending.cancel()
                self.visitors.leave(viewer.camera, time.monotonic())
                await asyncio.gather(sending, return_exceptions=True)
            return socket

    async def _take(self, socket: web.WebSocketResponse, viewer: Viewer) -> None:
        """Take in what the page asks for and its pictures; one that sends anything else is closed."""
        allowance = Allowance(MESSAGES_A_S, MESSAGES_A_S)
        async for message in socket:
            now_s = time.monotonic()
            try:
                if not allowance.take("", now_s):
                    raise BadPicture("more messages than a page sends")
                if message.type is WSMsgType.BINARY:
                    await self.visitors.put(viewer.camera, message.data, now_s)
                else:
                    await self._answer(viewer, _read_ask(message), now_s)
            except BadPicture as error:
                await self._drop(socket, str(error))
                return

    async def _answer(self, viewer: Viewer, ask: Ask, now_s: float) -> None:
        match ask.camera:
            case "on":
                self.visitors.enter(viewer.camera, ask.key, now_s)
            case "off":
                self.visitors.leave(viewer.camera, now_s)
            case _ if ask.next in self._names():
                await self._hub.want(viewer, ask.next)

    async def _drop(self, socket: web.WebSocketResponse, why: str) -> None:
        if self._lines.take("", time.monotonic()):
            log.info("a page is dropped: %s", why)
        await socket.close(code=1008, message=b"not expected")

    async def _send(self, socket: web.WebSocketResponse, viewer: Viewer) -> None:
        """Send what is new whenever there is room: of each source its newest frame."""
        camera, told = viewer.camera, "off"
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_until_credit_s(camera)):
                    await viewer.changed.wait()
            viewer.changed.clear()
            if camera.trouble:
                await self._drop(socket, camera.trouble)
                return
            if (state := self.visitors.state(camera)) != told:
                told = state
                await socket.send_str(json.dumps({"type": "camera", "state": state}))
            if camera.ask(time.monotonic()):
                await socket.send_str(ONE_MORE)
            if viewer.status_changed:
                viewer.status_changed = False
                await socket.send_str(json.dumps(self._status()))
            while viewer.ready:
                source = next(iter(viewer.ready))
                del viewer.ready[source]
                if not self._hub.may_see(viewer, source):
                    continue
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
            while not self._hub.over:
                picture = await self._next(viewer, source)
                if picture is not None:
                    await response.write(_part(picture.jpeg))
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
        viewers = len(self._hub.viewers)
        lines = family("emotions_viewers", "gauge", "Open pages and MJPEG streams.", [({}, viewers)])
        text = self._run_metrics() + "".join(f"{line}\n" for line in lines)
        return web.Response(text=text, headers={"Content-Type": CONTENT_TYPE})

    def _names_for_all(self) -> list[str]:
        """The sources that are nobody's own."""
        return [name for name in self._names() if name not in self.visitors.places]

    async def _source(self, request: web.Request, viewer: Viewer) -> str:
        """Return the source that a request names; without a name the first one.

        This process may be there before it has heard of any source; the first one is waited for.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(PICTURE_S):
                while not self._names_for_all() and not self._hub.over:
                    viewer.changed.clear()
                    await viewer.changed.wait()
        names = self._names_for_all()
        source = request.query.get("source", names[0] if names else "")
        if source not in names:
            none = "visitors' cameras, which they alone see" if self.visitors.places else "no source yet"
            known = ", ".join(names) or none
            raise web.HTTPNotFound(text=f"source: expected one of {known}; found {source!r}\n")
        return source


def _read_ask(message: WSMessage) -> Ask:
    """Raises BadPicture for what no page sends."""
    if message.type is not WSMsgType.TEXT or len(message.data) > MAX_MESSAGE_BYTES:
        raise BadPicture("a message that no page sends")
    try:
        ask = msgspec.json.decode(message.data, type=Ask)
    except msgspec.MsgspecError as error:
        raise BadPicture("a message that no page sends") from error
    if bool(ask.next) == bool(ask.camera):
        raise BadPicture("a message that no page sends")
    return ask


def _until_credit_s(camera: Camera) -> float | None:
    """Return when a camera may be asked for one more picture; None: not before something changes."""
    return max(0.0, camera.next_credit_s - time.monotonic()) if camera.may_ask() else None


def _packed(picture: Picture) -> bytes:
    """Return a frame as the page reads it: the record's length, little-endian; the record, JSON; the JPEG."""
    return struct.pack("<I", len(picture.record)) + picture.record + picture.jpeg


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
        """A connection that has asked for something is not idle; it may end before or during its answer."""
        self._silent.discard(request.protocol)
        try:
            answer: web.StreamResponse = await handler(request)
        except ConnectionError:
            return web.Response()  # which nobody gets: aiohttp would log a traceback
        return answer


def make_app(server: Server, guard: Guard) -> web.Application:
    """Return the application; it serves nothing yet."""
    app = web.Application(middlewares=[guard.middleware], client_max_size=MAX_MESSAGE_BYTES)
    app.add_routes([*server.routes(), web.post("/api/login", guard.login)])
    app.on_response_prepare.append(guard.add_headers)
    return app
