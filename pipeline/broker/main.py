"""The broker's process: it moves bytes between the sockets and the state machine, and nothing else."""

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
from pipeline.wire.sockets import BrokerChannel, Malformed

TICK_NS = 50_000_000
ASLEEP_NS = 1_000_000_000  # a longer gap between two turns: this process was stopped
CLOSING_NS = 3_000_000_000  # how long the broker waits for stages to say goodbye

REJOIN_S = 5.0
"""Captures on other machines find a new broker within a second; a poor network may take longer."""

MEMORY_NS = 250_000_000  # how often this process looks at its memory
MEMORY_BYTES = 256 * 1024 * 1024
"""What it may need besides pixels, held and in sockets."""

OPEN_MAX = 10_240  # of macOS, which names no limit for open files and refuses more

log = logging.getLogger(__name__)


def run(assignment: Assignment, stop: StopFlag) -> int:
    """Serve until the run is over and every stage has left."""
    rules = msgspec.json.decode(assignment.options, type=BrokerRules)
    rules = msgspec.structs.replace(
        rules,
        frames=assignment.frames,
        rejoin_s=REJOIN_S if rules.sources is None else 0.0,
        owner=assignment.instance.partition("/")[0],
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
    """Raise the limit as far as it goes: an ipc connection for which there is none ends ZeroMQ's process."""
    if sys.platform == "win32":
        return
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except ValueError:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(now, OPEN_MAX), most))


class Memory:
    """This process's resident memory, on Linux; elsewhere nothing is known of it."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._statm = None if sys.platform != "linux" else os.open("/proc/self/statm", os.O_RDONLY)

    def end_if_swollen(self) -> None:
        """End at once if memory has grown past all that messages account for.

        ZeroMQ bounds the parts of a message and not their number, and collects them all: a peer that sends
        one without end would else take the machine's memory. The file is open already, since there may be
        no descriptor left when it is asked.
        """
        if self._statm is None:
            return
        pages = int(os.pread(self._statm, 256, 0).split()[1])
        if pages * os.sysconf("SC_PAGE_SIZE") > self._limit_bytes:
            limit_mb = self._limit_bytes >> 20
            log.critical("more than %d MB of memory: a peer sends without end; the broker ends", limit_mb)
            # It is started again, and a file's frames are sent again.
            os._exit(KILLED_STATUS)


def _serve(broker: Broker, channel: BrokerChannel, stop: StopFlag, memory: Memory) -> None:
    turn_ns = time.monotonic_ns()
    next_tick_ns = next_look_ns = turn_ns
    finished_ns: int | None = None
    while not stop:
        for item in channel.receive(_timeout_ms(broker, next_tick_ns)):
            if isinstance(item, Malformed):
                broker.bad_message(item.identity, item.reason, time.monotonic_ns(), item.key)
            else:
                broker.receive(item.identity, item.message, item.buffers, time.monotonic_ns(), item.key)
            _flush(broker, channel)
        now_ns = time.monotonic_ns()
        if now_ns - turn_ns > ASLEEP_NS:
            broker.slept(now_ns - turn_ns)
        turn_ns = now_ns
        if now_ns >= next_look_ns:
            next_look_ns = now_ns + MEMORY_NS
            memory.end_if_swollen()
        due_ns = broker.due_ns()
        if now_ns >= next_tick_ns or (due_ns is not None and now_ns >= due_ns):
            next_tick_ns = now_ns + TICK_NS
            broker.tick(now_ns)
            _flush(broker, channel)
        if broker.finished:
            finished_ns = finished_ns or now_ns
            if not broker.peers_left or now_ns - finished_ns > CLOSING_NS:
                broker.tick(now_ns)
                _flush(broker, channel)
                return


def _timeout_ms(broker: Broker, next_tick_ns: int) -> int:
    """Until the next tick, or sooner if a batch is due."""
    due_ns = broker.due_ns()
    wake_ns = next_tick_ns if due_ns is None else min(next_tick_ns, due_ns)
    return max(0, -(-(wake_ns - time.monotonic_ns()) // 1_000_000))


def _flush(broker: Broker, channel: BrokerChannel) -> None:
    """Send what there is to send; a peer that can't be reached is lost, which may bring more to send."""
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
    """Names are the peers' own: what would move the cursor or colour the terminal is shown, not done."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
