"""`python -m tools.viewers [--viewers 20]`: the cost of viewers of the web page.

The demo's four faces play with the page served: without viewers and with them, in turn. One viewer has
stalled: it asks and reads nothing. One is on a line of 300 kB/s. All others ask for the next frame when they
have one. The viewers run on the same cores, at a lower priority (nice 10). `--pace N` plays N frames a second
instead of 25; more than the machine can do measures throughput. CPU time a frame depends least on other load.
"""

import argparse
import asyncio
import json
import os
import struct
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil  # type: ignore[import-untyped]
from aiohttp import ClientError, ClientSession, WSMsgType

from bench.against import Checkout, sides
from bench.document import latency_ms
from pipeline.common.errors import UserError
from stages.web.spec import find_port
from tools.measuring import LIMIT_S, EndlessRun, make_parser, run_program, spread, table

SECONDS: Final = 20.0
WARM_UP_S: Final = 5.0
SLOW_BYTES_A_S: Final = 300_000
SOURCE: Final = "demo"
NICE: Final = 10


class Viewers:
    """Open pages, and the frames they received."""

    def __init__(self) -> None:
        self.newest = 0  # frame whose record has come
        self.frames = 0  # of the viewers that are neither slow nor stalled
        self.lag_frames: list[int] = []
        self.slow_lag_frames: list[int] = []

    async def watch(self, session: ClientSession, bytes_a_s: float = 0.0) -> None:
        async with session.ws_connect("/api/live", max_msg_size=0) as socket:
            await socket.send_json({"next": SOURCE})
            async for message in socket:
                if message.type is not WSMsgType.BINARY:
                    continue
                if bytes_a_s:
                    await asyncio.sleep(len(message.data) / bytes_a_s)
                (length,) = struct.unpack("<I", message.data[:4])
                lag = self.newest - json.loads(message.data[4 : 4 + length])["frame"]
                (self.slow_lag_frames if bytes_a_s else self.lag_frames).append(lag)
                self.frames += not bytes_a_s
                await socket.send_json({"next": SOURCE})

    async def stall(self, url: str) -> None:
        """Ask for frames and read none of them, in a connection without a library that would read."""
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(
            b"GET /api/live HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        ask = json.dumps({"next": SOURCE}).encode()
        while not writer.is_closing():
            writer.write(bytes([0x81, 0x80 | len(ask), 0, 0, 0, 0]) + ask)
            await asyncio.sleep(0.04)

    async def follow(self, session: ClientSession) -> None:
        """Know the newest record."""
        async with session.get("/api/results", timeout=None) as answer:
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    self.newest = json.loads(line[6:])["frame"]


class Seen(NamedTuple):
    """One run."""

    fps: float
    latency_ms: list[float]
    cpu_ms: float  # a frame, of all processes but the page's
    page_cpu_ms: float  # a frame, of the page's
    viewer_fps: float  # of each
    lag_frames: list[int]
    slow_lag_frames: list[int]


async def run_once(checkout: Checkout, viewers: int, pace: float, seconds: float, folder: Path) -> Seen:
    """Run the demo with so many viewers. Raises UserError if it ends early."""
    port = find_port("127.0.0.1", 0)
    settings = [f"web.port={port}", "capture.repeat=0", f"capture.pace_fps={pace:g}"]
    words = ["--display", "web", "--source", SOURCE]
    words += [word for setting in settings for word in ("--set", setting)]
    with EndlessRun(checkout, words, folder / "results.jsonl") as run:
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
        seen = await _watched(run, f"http://127.0.0.1:{port}", viewers, seconds)
        run.interrupt()
        return seen


async def _watched(run: EndlessRun, url: str, viewers: int, seconds: float) -> Seen:
    seen = Viewers()
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(ClientSession(url))
        await _until_served(run, session)
        tasks = [asyncio.create_task(seen.follow(session))]
        tasks += [asyncio.create_task(seen.watch(session)) for _ in range(max(0, viewers - 2))]
        if viewers:
            tasks.append(asyncio.create_task(seen.watch(session, SLOW_BYTES_A_S)))
            tasks.append(asyncio.create_task(seen.stall(url)))
        await asyncio.sleep(WARM_UP_S)
        before = _cpu_s(run.process.pid)
        first, frames, since_s = run.results.read_bytes().count(b"\n"), seen.frames, time.monotonic()
        await asyncio.sleep(seconds)
        elapsed_s, watched = time.monotonic() - since_s, seen.frames - frames
        after = _cpu_s(run.process.pid)
        lines = run.results.read_bytes().splitlines()[first:]
        run.go_on(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    whole = [line for line in lines if line.endswith(b"}")]
    latencies = [json.loads(line)["latency_ms"] for line in whole]
    each = watched / elapsed_s / max(1, viewers - 2)
    run_ms, page_ms = (1000 * (after[n] - before[n]) / max(1, len(whole)) for n in (0, 1))
    return Seen(
        len(whole) / elapsed_s, latencies, run_ms, page_ms, each, seen.lag_frames, seen.slow_lag_frames
    )


def _cpu_s(pid: int) -> tuple[float, float]:
    """Return the CPU time of a run's processes, and that of its page's."""
    run = page = 0.0
    for child in psutil.Process(pid).children(recursive=True):
        times = child.cpu_times()
        if child.cmdline()[-1:] == ["web"]:
            page += times.user + times.system
        else:
            run += times.user + times.system
    return run, page


async def _until_served(run: EndlessRun, session: ClientSession) -> None:
    while True:
        try:
            async with session.get("/api/status") as answer:
                if (await answer.json())["state"] == "running":
                    return
        except ClientError:
            pass
        run.go_on(0)
        if time.monotonic() - run.started_s > LIMIT_S:
            raise UserError(run.failed(f"no page within {LIMIT_S:.0f} s"))
        await asyncio.sleep(0.2)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of both kinds of run."""
    (checkout,) = sides(None, options.set, [])
    runs: dict[int, list[Seen]] = {0: [], options.viewers: []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.runs):
            for viewers, seen in runs.items():
                scene = run_once(checkout, viewers, options.pace, options.seconds, Path(folder))
                seen.append(asyncio.run(scene))
    rows, figures = [], {}
    for viewers, seen in runs.items():
        columns = zip(*((run.fps, run.viewer_fps, run.cpu_ms, run.page_cpu_ms) for run in seen), strict=True)
        fps, viewer_fps, cpu, page = (spread(values) for values in columns)
        latency = latency_ms([run.latency_ms for run in seen])
        lag = _p95([lag for run in seen for lag in run.lag_frames])
        slow = _p95([lag for run in seen for lag in run.slow_lag_frames])
        rows.append([
            viewers, f"{fps.median:.1f}", f"{latency['p50']:.1f} / {latency['p95']:.1f}",
            f"{cpu.median:.1f}", f"{page.median:.1f}", f"{viewer_fps.median:.1f}", lag, slow,
        ])  # fmt: skip
        figures[str(viewers)] = {
            "cpu_ms": cpu, "page_cpu_ms": page, "fps": fps, "latency_ms": latency, "viewer_fps": viewer_fps,
            "lag_frames_p95": lag, "slow_lag_frames_p95": slow,
        }  # fmt: skip
    header = [
        "viewers", "frames/s", "latency p50 / p95, ms", "CPU a frame, ms", "of the page, ms",
        "frames/s a viewer", "behind (p95), frames", "slow line",
    ]  # fmt: skip
    print(table(header, rows))
    return {"pace": options.pace, "seconds": options.seconds, "runs": options.runs, "viewers": figures}


def _p95(values: list[int]) -> int:
    return sorted(values)[int(0.95 * (len(values) - 1))] if values else 0


def main() -> int:
    """Run the command line."""
    parser = make_parser("tools.viewers", __doc__, 3)
    parser.add_argument("--viewers", type=int, metavar="N", default=20)
    parser.add_argument("--pace", type=float, metavar="FPS", default=25.0)
    parser.add_argument("--seconds", type=float, metavar="S", default=SECONDS)
    return run_program(measure, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
