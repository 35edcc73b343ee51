"""The web page's process: frames and records from display in, reports from the broker in, the page out."""

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
from aiohttp import web

from pipeline.common.errors import UserError
from pipeline.wire.assignment import Assignment, StopFlag
from pipeline.wire.messages import PROTOCOL, End, Hello, StatusReport
from pipeline.wire.page_link import PageEnd, VisitorsEnd
from pipeline.wire.session import Session
from stages.web.guard import Guard
from stages.web.hub import ASK_AGAIN_S, Hub
from stages.web.server import Connections, Server, make_app
from stages.web.spec import WebOptions, WebSettings, tls
from stages.web.status import RunStatus
from stages.web.visitors import Visitors

NICE: Final = 10
"""Viewers come after the run: where there are too few cores for both, they see fewer frames."""

POLL_S: Final = 0.05  # of the broker's messages, which nobody waits for
LAST_WORDS_S: Final = 0.5  # after the end: how long pages may take to hear of it

log = logging.getLogger(__name__)


def run(assignment: Assignment, stop: StopFlag) -> int:
    """Serve until the run is over. Raises UserError for an address that can't be had."""
    options = msgspec.json.decode(assignment.options, type=WebOptions)
    # A client's broken request is no event of the run, and a fault in here is one line.
    for name in ("aiohttp", "asyncio"):
        logging.getLogger(name).addFilter(_one_line)
    stop.listen()
    os.nice(NICE)
    # zmq.asyncio needs a loop that watches sockets: on Windows that is not the usual one.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(_serve(assignment, options, stop))
    return 0


def _one_line(record: logging.LogRecord) -> bool:
    if record.exc_info and record.exc_info[1] is not None:
        record.msg, record.args = f"{record.getMessage()}: {record.exc_info[1]!r}", ()
        record.exc_info = record.exc_text = None
    record.msg, record.args = record.getMessage().replace("\n", " "), ()
    return True


async def _serve(assignment: Assignment, options: WebOptions, stop: StopFlag) -> None:
    link = PageEnd(options.page)
    captures = VisitorsEnd(options.visitors_address)
    visitors = Visitors(options.visitors, captures.send)
    status = RunStatus()
    hub = Hub(link.request, visitors)

    def shown() -> dict[str, Any]:
        """What the page shows: of the visitors' places those that are or were taken."""
        page = status.to_page(hub.latency_ms)
        for source in page["sources"]:
            if source["name"] in visitors.places:
                source["visitor"] = visitors.places[source["name"]].camera is not None
        page["sources"] = [one for one in page["sources"] if one.get("visitor", True) or one["captured"]]
        return page | describe(options, visitors)

    server = Server(hub, shown, lambda: status.names, status.metrics.text, visitors)
    try:
        async with listening(server, options.settings):
            tasks = [
                asyncio.create_task(_take_frames(link, hub)),
                asyncio.create_task(_take_wishes(captures, visitors)),
                asyncio.create_task(_ask_again(hub)),
            ]
            try:
                await _attend(assignment, hub, status, visitors, stop)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        link.close()
        captures.close()


def describe(options: WebOptions, visitors: Visitors) -> dict[str, Any]:
    """Return what the page is told of this run besides its state."""
    told = {"mirror": options.mirror, "words": msgspec.structs.asdict(options.words)}
    if not options.visitors:
        return told
    width, height, fps = options.camera
    camera = {"most": len(visitors.open_places), "width": width, "height": height, "fps": fps}
    return told | {"camera": camera, "stored": options.stored}


@contextlib.asynccontextmanager
async def listening(server: Server, settings: WebSettings) -> AsyncIterator[None]:
    """Serve the page at its address, which is logged once it can be opened."""
    encryption = tls(settings)
    app = make_app(server, Guard(settings, camera=bool(server.visitors.places)))
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=15, shutdown_timeout=0.2)
    connections = Connections(runner)
    app.middlewares.append(connections.middleware)
    await runner.setup()
    loop = asyncio.get_running_loop()
    try:
        listener = await loop.create_server(connections, settings.host, settings.port, ssl=encryption)
    except OSError as error:
        raise UserError(f"web.host {settings.host}, web.port {settings.port}: {error.strerror}") from error
    log.info("the page is at %s", address(settings, encryption))
    try:
        yield
    finally:
        listener.close()
        await runner.cleanup()


def address(settings: WebSettings, encryption: ssl.SSLContext | None) -> str:
    """Return the page's address; the token, which logs should not hold, is left to the reader."""
    host = {"0.0.0.0": "THIS-MACHINE", "::": "THIS-MACHINE"}.get(settings.host, settings.host)
    shown = f"[{host}]" if ":" in host else host
    token = "#token=…" if settings.token else ""
    return f"{'https' if encryption else 'http'}://{shown}:{settings.port}/{token}"


async def _take_frames(link: PageEnd, hub: Hub) -> None:
    while True:
        picture = await link.receive()
        if picture.jpeg:
            hub.put_picture(picture)
        else:
            hub.put_record(picture.record)


async def _take_wishes(captures: VisitorsEnd, visitors: Visitors) -> None:
    while True:
        await visitors.want(await captures.receive())


async def _ask_again(hub: Hub) -> None:
    while True:
        await asyncio.sleep(ASK_AGAIN_S)
        await hub.ask_again()


async def _attend(
    assignment: Assignment, hub: Hub, status: RunStatus, visitors: Visitors, stop: StopFlag
) -> None:
    """Take part in the run, from this loop, which does the work; return when it is over."""

    def hello() -> Hello:
        return Hello("web", assignment.name, assignment.instance, os.getpid(), PROTOCOL)

    over_s: float | None = None
    loop = asyncio.get_running_loop()
    with Session(assignment, hello) as session:
        while not stop and (over_s is None or loop.time() < over_s):
            received: tuple[Any, Any] | None = session.receive(0)
            match received:
                case (StatusReport() as report, _):
                    status.update(report)
                    visitors.update(report, loop.time())
                    hub.put_status()
                    if report.finished:
                        over_s = over_s or loop.time() + LAST_WORDS_S
                        hub.end()
                case (End(), _):  # the last report is on its way
                    over_s = over_s or loop.time() + LAST_WORDS_S
                case None:
                    await asyncio.sleep(POLL_S)
