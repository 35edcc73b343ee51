"""A forwarder for tcp, for what a network does to connections: delay, stalls, cuts."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Coroutine
from typing import Any


class Proxy:
    """Listens on a port of the loopback and forwards to another. Used as a context manager."""

    def __init__(self, target_port: int, delay_s: float = 0.0) -> None:
        """delay_s: how much later what is sent arrives, in each direction."""
        self._target_port = target_port
        self._delay_s = delay_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    def __enter__(self) -> "Proxy":
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self._flows = self._call(_event(is_set=True))
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stall(self) -> None:
        """Let nothing through, and keep the connections."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def flow(self) -> None:
        self._loop.call_soon_threadsafe(self._flows.set)

    @property
    def connections(self) -> int:
        return len(self._writers) // 2

    def cut(self) -> None:
        """Break all connections at once, as a router does that restarts."""
        self._call(self._cut())

    def _call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _close(self) -> None:
        self._server.close()
        await self._cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, back}
        self._writers |= ends
        for pair in ((reader, back), (there, writer)):
            self._task(self._forward(*pair, ends))

    def _task(self, coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: set[asyncio.StreamWriter]
    ) -> None:
        """Take in and hand on, each piece `delay_s` after it came."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        handing_on = self._task(self._hand_on(pieces, writer))
        with contextlib.suppress(OSError):
            while piece := await reader.read(65_536):
                await pieces.put((time.monotonic() + self._delay_s, piece))
        await pieces.put((0.0, b""))
        await handing_on
        for end in ends:
            end.transport.abort()
        self._writers -= ends

    async def _hand_on(
        self, pieces: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter
    ) -> None:
        while True:
            due_s, piece = await pieces.get()
            if not piece:
                return
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            await self._flows.wait()
            if not writer.transport.is_closing():
                with contextlib.suppress(OSError):
                    writer.write(piece)
                    await writer.drain()


async def _event(*, is_set: bool) -> asyncio.Event:
    event = asyncio.Event()
    if is_set:
        event.set()
    return event
