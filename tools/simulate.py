"""`python -m tools.simulate`: a run of many cameras as a discrete-event simulation, for docs/scale.md.

Sources are spread over brokers by rendezvous hashing: each takes the broker that has the highest hash with
its name, or the next if that is full, so nobody has to agree on anything, and the loss of a broker moves its
own sources alone. Each broker has detectors, classifiers and a display of its own. `--check 2,8` runs the
pipeline with so many cameras as well, and simulates them with the times that its stages took.
"""

import argparse
import hashlib
import random
import re
import signal
import statistics
import sys
import urllib.request
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, NamedTuple

import simpy

from pipeline.wire.addresses import free_port
from pipeline.wire.messages import MAX_SOURCES
from tests.support.mjpeg import MjpegCamera
from tests.support.runs import read_jsonl
from tools.faults import starter
from tools.measuring import make_parser, run_program

ACTIVE: Final = 8
"""Frames of a live source past its mailbox, as in the broker."""

MAX_BATCH: Final = 64
NOTICE_S: Final = 1.5
"""`broker.peer_timeout_s`: after so long the work of a lost machine goes to others."""

HEADER: Final = """\
| cameras | brokers | detectors | classifiers | frames/s | ok | p50 ms | p95 ms | broker | detect | classify |
|---|---|---|---|---|---|---|---|---|---|---|"""


class Times(NamedTuple):
    """What takes how long, ms, and how many do it at each broker."""

    broker: float = 1.0  # a frame that is handled; one that is dropped takes a third
    detect: float = 8.0
    classify: float = 0.6  # a face
    display: float = 0.3
    detectors: int = 4
    classifiers: int = 1


class Frame(NamedTuple):
    source: str
    captured_s: float


def place(source: str, brokers: Sequence[str], taken: Counter[str] | None = None) -> str:
    """Return the broker of a source by rendezvous hashing; "" if all have MAX_SOURCES in `taken`."""
    has_room = [one for one in brokers if taken is None or taken[one] < MAX_SOURCES]
    return max(
        has_room,
        default="",
        key=lambda one: hashlib.blake2b(f"{one}/{source}".encode(), digest_size=8).digest(),
    )


class Shard:
    """A broker with its workers. Frames wait in a mailbox a source, where the newest one wins."""

    def __init__(self, env: simpy.Environment, times: Times, chance: random.Random) -> None:
        self.env, self.times, self._chance = env, times, chance
        self.latency_s: list[float] = []
        self.outcomes: Counter[str] = Counter()
        self.busy_s = dict.fromkeys(("broker", "detect", "classify", "display"), 0.0)
        self.lost_detectors = 0
        self._free_s = 0.0  # when the broker is done with what has come
        self._mailboxes: OrderedDict[str, Frame] = OrderedDict()
        self._active: Counter[str] = Counter()
        self._faces: deque[Frame] = deque()
        self._working: Counter[str] = Counter()
        self._shown_s = 0.0

    def arrive(self, frame: Frame) -> None:
        """A frame has come in; it waits until the broker has a turn for it."""
        self._broker(1 / 3, lambda: self._put(frame))

    def _broker(self, share: float, then: Callable[[], None]) -> None:
        cost_s = share * self.times.broker / 1e3
        self._free_s = max(self._free_s, self.env.now) + cost_s
        self.busy_s["broker"] += cost_s
        self._after(self._free_s - self.env.now, then)

    def _after(self, delay_s: float, then: Callable[[], None]) -> None:
        event = self.env.timeout(delay_s)
        assert event.callbacks is not None
        event.callbacks.append(lambda _: then())

    def _put(self, frame: Frame) -> None:
        if self._mailboxes.pop(frame.source, None) is not None:
            self.outcomes["dropped"] += 1
        self._mailboxes[frame.source] = frame
        self._detect()

    def _detect(self) -> None:
        free = self.times.detectors - self.lost_detectors - self._working["detect"]
        for source in list(self._mailboxes) if free > 0 else ():
            if self._active[source] >= ACTIVE:
                continue
            frame = self._mailboxes.pop(source)
            self._active[source] += 1
            self._work("detect", self.times.detect, partial(self._found, frame))
            free -= 1
            if free <= 0:
                return

    def _work(self, role: str, mean_ms: float, then: Callable[[], None]) -> None:
        """Let a worker be busy for about so long."""
        self._working[role] += 1
        taken_s = mean_ms / 1e3 * self._chance.uniform(0.6, 1.4)
        self.busy_s[role] += taken_s

        def done() -> None:
            self._working[role] -= 1
            then()

        self._after(taken_s, done)

    def _found(self, frame: Frame) -> None:
        self._detect()
        self._broker(1 / 3, lambda: self._queue(frame))

    def _queue(self, frame: Frame) -> None:
        self._faces.append(frame)
        self._classify()

    def _classify(self) -> None:
        while self._faces and self._working["classify"] < self.times.classifiers:
            batch = [self._faces.popleft() for _ in range(min(MAX_BATCH, len(self._faces)))]
            self._work("classify", self.times.classify * len(batch), partial(self._named, batch))

    def _named(self, batch: list[Frame]) -> None:
        self._classify()
        for frame in batch:
            self._broker(1 / 3, partial(self._show, frame))

    def _show(self, frame: Frame) -> None:
        cost_s = self.times.display / 1e3
        self._shown_s = max(self._shown_s, self.env.now) + cost_s
        self.busy_s["display"] += cost_s
        self._after(self._shown_s - self.env.now, lambda: self._written(frame))

    def _written(self, frame: Frame) -> None:
        self._active[frame.source] -= 1
        self.outcomes["ok"] += 1
        self.latency_s.append(self.env.now - frame.captured_s)

    def lose_detectors(self, count: int, back_s: float) -> None:
        """A machine is lost: its detectors are missing until others are started elsewhere."""
        self.lost_detectors += count

        def back() -> None:
            self.lost_detectors -= count
            self._detect()

        self._after(NOTICE_S + back_s, back)


class Simulated(NamedTuple):
    """What came of a simulation."""

    cameras: int
    brokers: int
    seconds: float
    ok: int
    dropped: int
    latency_ms: tuple[float, float]  # p50, p95
    busy: dict[str, float]  # of the busiest broker, detectors and classifiers: the share of their time
    spread: float  # sources of the broker that has most, by the mean

    def line(self, times: Times) -> str:
        p50, p95 = self.latency_ms
        shares = " | ".join(f"{self.busy[role]:.0%}" for role in ("broker", "detect", "classify"))
        return (
            f"| {self.cameras} | {self.brokers} | {self.brokers * times.detectors} "
            f"| {self.brokers * times.classifiers} | {self.ok / self.seconds:.0f} "
            f"| {self.ok / (self.ok + self.dropped):.1%} "
            f"| {p50:.0f} | {p95:.0f} | {shares} |"
        )


def simulate(
    cameras: int,
    brokers: int,
    fps: float,
    times: Times,
    seconds: float,
    failures: bool = False,
    seed: int = 0,
) -> Simulated:
    """Run so many cameras for so long. `failures`: a broker and one machine in ten are lost in the middle."""
    env, chance = simpy.Environment(), random.Random(seed)
    names = [f"broker-{number}" for number in range(brokers)]
    shards = {name: Shard(env, times, chance) for name in names}
    alive = list(names)
    placed: dict[str, str] = {}
    taken: Counter[str] = Counter()
    for source in (f"camera-{number}" for number in range(cameras)):
        placed[source] = place(source, names, taken)
        taken[placed[source]] += 1
    spread = max(taken.values()) * brokers / cameras

    def film(source: str) -> Any:
        yield env.timeout(chance.uniform(0, 1 / fps))
        while True:
            if placed[source] in alive:
                shards[placed[source]].arrive(Frame(source, env.now))
            else:
                shards[placed[source]].outcomes["dropped"] += 1  # until it has found the next broker
            yield env.timeout(1 / fps)

    def fail() -> Any:
        yield env.timeout(seconds / 3)
        for name in chance.sample(names, max(1, brokers // 10)):
            shards[name].lose_detectors(times.detectors // 2, back_s=4.0)
        if brokers > 1:
            lost = alive.pop(0)
            yield env.timeout(NOTICE_S + 1.0)
            for source, where in placed.items():
                if where == lost:
                    placed[source] = place(source, alive, taken)
                    if placed[source]:
                        taken[placed[source]] += 1

    for source in placed:
        env.process(film(source))
    if failures:
        env.process(fail())
    env.run(until=seconds)
    return summed(cameras, list(shards.values()), times, seconds, spread)


def summed(cameras: int, shards: Sequence[Shard], times: Times, seconds: float, spread: float) -> Simulated:
    """Return what came of all brokers together."""
    outcomes = sum((shard.outcomes for shard in shards), Counter[str]())
    latency_s = sorted(second for shard in shards for second in shard.latency_s)
    per = {"broker": 1, "detect": times.detectors, "classify": times.classifiers}
    busy = {role: max(s.busy_s[role] for s in shards) / seconds / n for role, n in per.items()}
    p50, p95 = (1e3 * latency_s[int(len(latency_s) * share)] for share in (0.5, 0.95))
    done = outcomes["ok"], outcomes["dropped"]
    return Simulated(cameras, len(shards), seconds, *done, (p50, p95), busy, spread)


# -------------------------------------------------------------------------------------------- a real run


class Real(NamedTuple):
    """A run of the pipeline, and the times that its stages took."""

    ok: int
    dropped: int
    fps: float  # of each camera
    seconds: float
    latency_ms: tuple[float, float]
    times: Times


def run_for_real(cameras: int, fps: float, frames: int, settings: Sequence[str]) -> Real:
    """Run so many cameras until so many records a camera are written, on one detector."""
    with ExitStack() as stack:
        start, folder = stack.enter_context(starter())
        served = [stack.enter_context(MjpegCamera(fps)) for _ in range(cameras)]
        port, results = free_port(), folder / "r.jsonl"
        options = ["--display", "none", "--results", str(results), "--set", "detect.workers=1"]
        options += ["--set", f"metrics.address=127.0.0.1:{port}", "--set", "detect.search_interval_ms=0"]
        options += [word for setting in settings for word in ("--set", setting)]
        run = start(*options, *(word for camera in served for word in ("--source", camera.url)))
        run.until_records(results, frames * cameras)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        run.signal(signal.SIGINT)
        run.end()
        records = read_jsonl(results)

    def a_step(role: str) -> float:
        def value(name: str) -> float:
            found = re.search(rf'^emotions_step_{name}_total{{role="{role}"}} (\S+)$', text, re.MULTILINE)
            assert found, f"/metrics has no {name} of {role}"
            return float(found[1])

        return 1e3 * value("busy_seconds") / value("frames")

    latency = sorted(record["latency_ms"] for record in records if record["status"] == "ok")
    seconds = max(record["time_s"] for record in records)
    times = Times(
        detect=a_step("detect"), classify=a_step("classify"), display=a_step("display"), detectors=1
    )
    return Real(
        len(latency),
        len(records) - len(latency),
        len(records) / cameras / seconds,
        seconds,
        (statistics.median(latency), latency[int(len(latency) * 0.95)]),
        times,
    )


def check(counts: Sequence[int], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare real runs with their simulation."""
    print("| cameras | frames ok: real | simulated | p50 ms: real | simulated | p95 ms: real | simulated |")
    print("|---|---|---|---|---|---|---|")
    found = []
    for cameras in counts:
        real = run_for_real(cameras, options.fps, 200, options.set)
        times = real.times._replace(broker=options.broker_ms)
        twin = simulate(cameras, 1, real.fps, times, real.seconds)
        shares = [one.ok / (one.ok + one.dropped) for one in (real, twin)]
        pairs = [f"{real.latency_ms[n]:.0f} | {twin.latency_ms[n]:.0f}" for n in (0, 1)]
        print(f"| {cameras} | {shares[0]:.1%} | {shares[1]:.1%} | {pairs[0]} | {pairs[1]} |", flush=True)
        found.append({"cameras": cameras, "real": real._asdict(), "simulated": twin._asdict()})
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    times = Times(options.broker_ms, options.detect_ms, options.classify_ms, options.display_ms)
    times = times._replace(detectors=options.detectors, classifiers=options.classifiers)
    if options.check:
        counts = [int(count) for count in options.check.split(",")]
        return {"check": check(counts, options)}
    print(HEADER)
    found = []
    for failures in (False, True):
        one = simulate(options.cameras, options.brokers, options.fps, times, options.seconds, failures)
        print(one.line(times) + (" with failures" if failures else ""), flush=True)
        found.append(one._asdict())
    print(f"sources of the fullest broker: {found[0]['spread']:.2f} times the mean")
    return {"simulated": found, "times": times._asdict()}


def options() -> argparse.Namespace:
    parser = make_parser("tools.simulate", __doc__, runs=1)
    parser.add_argument("--cameras", type=int, default=100)
    parser.add_argument("--brokers", type=int, default=1)
    parser.add_argument("--fps", type=float, default=15.0, help="of each camera")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--check", default="", metavar="N,N", help="compare with runs of so many")
    for name, default in Times()._asdict().items():
        word = f"--{name}" if isinstance(default, int) else f"--{name}-ms"
        parser.add_argument(word, type=type(default), default=default)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run_program(measure, options()))
