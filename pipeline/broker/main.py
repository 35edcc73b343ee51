"""The broker's process: moves messages between the sockets and the state machine."""

import logging
import os
import sys
import time
from pathlib import Path

if sys.platform != "win32":
    import resource

import msgspec

from pipeline.broker.broker import Broker
from pipeline.broker.spec import BrokerRules
from pipeline.wire.assignment import KILLED_STATUS, Assignment, StopFlag
from pipeline.wire.sockets import BrokerChannel

TICK_NS = 50_000_000
ASLEEP_NS = 1_000_000_000  # a longer gap between two turns means that this process was stopped
CLOSING_NS = 3_000_000_000  # how long the broker waits for stages to say goodbye

MEMORY_BYTES = 256 * 1024 * 1024
"""What it may need besides the pixels that it holds and those in sockets."""

OPEN_MAX = 10_240  # the most open files of macOS, which reports no limit

log = logging.getLogger(__name__)


def run(assignment: Assignment, stop: StopFlag) -> int:
    """Serve until the run is over and every stage has left."""
    rules = msgspec.json.decode(assignment.options, type=BrokerRules)
    rules = msgspec.structs.replace(
        rules, frames=assignment.frames, owner=assignment.instance.partition("/")[0]
    )
    take_all_descriptors()
    keys = None
    if assignment.keys:
        from pipeline.wire.keys import broker_keys

        keys = broker_keys(Path(assignment.keys))
    channel = BrokerChannel(assignment.address, assignment.publish, assignment.max_message_bytes, keys)
    stop.listen()
    try:
        limit_bytes = 2 * rules.settings.max_bytes + 4 * assignment.max_message_bytes + MEMORY_BYTES
        _serve(Broker(os.urandom(6).hex(), rules), channel, stop, Memory(limit_bytes))
    finally:
        channel.close()
    return 0


def take_all_descriptors() -> None:
    """Raise the limit of open files: ZeroMQ aborts when an ipc connection finds no descriptor."""
    if sys.platform == "win32":
        return
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except ValueError:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(now, OPEN_MAX), most))


class Memory:
    """Watches this process's resident memory, on Linux only."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._statm = None if sys.platform != "linux" else os.open("/proc/self/statm", os.O_RDONLY)

    def end_if_swollen(self) -> None:
        """End the process if its memory exceeds what messages can account for.

        ZeroMQ bounds the parts of a message but not their number, and collects them all: a peer could send
        one without end. The file is opened early, since there may be no descriptor left later.
        """
        if self._statm is None:
            return
        pages = int(os.pread(self._statm, 256, 0).split()[1])
        if pages * os.sysconf("SC_PAGE_SIZE") > self._limit_bytes:
            limit_mb = self._limit_bytes >> 20
            log.critical(
                "more than %d MB of memory, since a peer sends without end: the broker restarts",
                limit_mb,
            )
            os._exit(KILLED_STATUS)


def _serve(broker: Broker, channel: BrokerChannel, stop: StopFlag, memory: Memory) -> None:
    turn_ns = next_tick_ns = time.monotonic_ns()
    finished_ns: int | None = None
    while not stop:
        wake_ns = min(next_tick_ns, broker.due_ns() or next_tick_ns)
        timeout_ms = max(0, -(-(wake_ns - time.monotonic_ns()) // 1_000_000))
        for item in channel.receive(timeout_ms):
            broker.receive(item.identity, item.message, item.buffers, time.monotonic_ns(), item.key)
            _flush(broker, channel)
        now_ns = time.monotonic_ns()
        if now_ns - turn_ns > ASLEEP_NS:
            broker.slept(now_ns - turn_ns)
        turn_ns = now_ns
        if now_ns >= wake_ns:
            next_tick_ns = now_ns + TICK_NS
            memory.end_if_swollen()
            broker.tick(now_ns)
            _flush(broker, channel)
        if broker.finished:
            finished_ns = finished_ns or now_ns
            if not broker.peers_left or now_ns - finished_ns > CLOSING_NS:
                broker.tick(now_ns)
                _flush(broker, channel)
                return


def _flush(broker: Broker, channel: BrokerChannel) -> None:
    """Send everything; a peer that can't be reached is lost, which may bring more to send."""
    while True:
        outgoing, records, log_lines = broker.drain()
        for line in log_lines:
            log.info(printable(line))
        for record in records:
            channel.publish(record)
        for item in outgoing:
            if not channel.send(item.identity, item.message, item.buffers):
                broker.unreachable(item.identity, time.monotonic_ns())
        if not outgoing:
            return


def printable(text: str) -> str:
    """Escape control characters: names come from peers, and could change the terminal."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
