"""A web page that is served without a run: frames, records and the status are the test's."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import cv2
import numpy as np
from aiohttp import ClientSession, CookieJar

from pipeline.wire.page_link import Picture
from stages.web.hub import Hub
from stages.web.main import listening
from stages.web.server import Server
from stages.web.spec import WebSettings, find_port
from stages.web.visitors import Visitors

LIMIT_S = 20.0


def make_record(frame: int, source: str = "clip") -> bytes:
    return json.dumps(
        {
            "source": source,
            "frame": frame,
            "time_s": frame / 25,
            "status": "ok",
            "latency_ms": 20.0,
            "faces": [],
        }
    ).encode()


def make_jpeg(level: int, side: int = 64) -> bytes:
    return cv2.imencode(".jpg", np.full((side, side, 3), level % 256, np.uint8))[1].tobytes()


class WebWorld:
    """A served page. `put` is a frame of the run; `requests` counts what display was asked for."""

    def __init__(self, settings: WebSettings, visitors: Sequence[str] = ()) -> None:
        self.settings = settings
        self.requests: list[str] = []
        self.given: list[tuple[str, int, bytes]] = []  # source, number and JPEG of visitors' pictures
        self.visitors = Visitors(visitors, self._give)
        self.hub = Hub(self._request, self.visitors)
        self.names = ["clip", *visitors]
        self.server = Server(self.hub, self._status, lambda: self.names, lambda: "# run\n", self.visitors)

    async def _request(self, source: str) -> None:
        self.requests.append(source)

    async def _give(self, source: str, number: int, jpeg: bytes) -> None:
        self.given.append((source, number, jpeg))

    def _status(self) -> dict[str, Any]:
        fields = {
            "captured": 3,
            "ok": 3,
            "dropped": {},
            "failed": 0,
            "in_flight": 0,
            "ended": False,
            "error": "",
        }
        latency = {"latency_ms": {"p50": 20.0, "p95": 30.0}}
        sources = [{"name": name, "kind": "live", "fps": 25.0, **fields, **latency} for name in self.names]
        return {"type": "status", "state": "running", "mirror": False, "sources": sources, "processes": []}

    @property
    def url(self) -> str:
        scheme = "https" if self.settings.certificate else "http"
        return f"{scheme}://127.0.0.1:{self.settings.port}"

    def put(self, frame: int, source: str = "clip", jpeg: bytes | None = None) -> None:
        record = make_record(frame, source)
        self.hub.put_record(record)
        self.hub.put_picture(Picture(record, jpeg or make_jpeg(frame)))

    async def put_when_wanted(self, frame: int, source: str = "clip") -> None:
        """Wait until a viewer waits for a frame of the source, then give it one."""
        await until(lambda: any(source in viewer.wanted for viewer in self.hub.viewers))
        self.put(frame, source)


async def until(what: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < deadline_s, "waited too long"
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def serving(
    visitors: Sequence[str] = (), **settings: Any
) -> AsyncIterator[tuple[WebWorld, ClientSession]]:
    """Serve a page, and give a client of it."""
    world = WebWorld(WebSettings(port=find_port("127.0.0.1", 0), **settings), visitors)
    async with listening(world.server, world.settings):
        jar = CookieJar(unsafe=True)  # which takes cookies of a host that is named by number
        async with ClientSession(world.url, cookie_jar=jar) as client:
            yield world, client
