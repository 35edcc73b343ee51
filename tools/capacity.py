"""`python -m tools.capacity`: what one core carries, as broker, detector and classifier.

The broker is a real process with real sockets; the stages round it answer without work. What is measured is
the CPU time that it takes for a frame, ZeroMQ's thread included: other programs on the machine change little.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from fractions import Fraction
from pathlib import Path
from queue import Queue
from typing import Any, Final, NamedTuple

import av
import cv2
import numpy as np
import psutil  # type: ignore[import-untyped]
from msgspec.structs import replace
from numpy.typing import NDArray

from pipeline.broker.spec import BROKER, BrokerRules
from pipeline.config.schema import BrokerSettings, PipelineSettings
from pipeline.config.sources import SourceSpec
from pipeline.supervisor.child_process import ChildProcess
from pipeline.wire.addresses import free_port
from pipeline.wire.assignment import Assignment
from pipeline.wire.keys import make_keys
from pipeline.wire.messages import (
    PROTOCOL,
    Accept,
    Commit,
    Committed,
    Delivery,
    Frame,
    Grant,
    Hello,
    Shape,
    SourceInfo,
    Work,
)
from pipeline.wire.session import Session
from stages.capture.reader import open_reader
from stages.capture.sources.demo import DemoReader
from stages.capture.spec import CaptureSettings
from stages.classify import spec as classify
from stages.classify.classifier import open_classifier
from stages.detect import spec as detect
from stages.detect.detector import open_detector
from stages.image_codec import to_jpeg
from stages.stage import ROLES
from tests.support.broker_world import classified, detected, make_assignment
from tools.measuring import make_parser, run_program

SIZES: Final = ((320, 240), (640, 480), (1280, 720), (1920, 1080))
WARM_UP: Final = 50
FRAMES: Final = 200
"""Measured of each kind."""

BATCHES: Final = (1, 8, 64)
HEADER: Final = """\
| link | frames | size | kB a frame | CPU ms a frame | frames/s | MB/s |
|---|---|---|---|---|---|---|"""


class Carried(NamedTuple):
    """What a broker's core does."""

    link: str
    encoding: str
    size: str
    frame_bytes: int
    cpu_ms: float  # of the broker, a frame

    def line(self) -> str:
        fps = 1000 / self.cpu_ms
        size = f"{self.size} | {self.frame_bytes / 1e3:.0f}"
        rate = f"{fps:.0f} | {fps * self.frame_bytes / 1e6:.0f}"
        return f"| {self.link} | {self.encoding} | {size} | {self.cpu_ms:.2f} | {rate} |"


def picture(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a picture of the demo, BGR, uint8, (height, width, 3)."""
    reader = DemoReader(SourceSpec("demo:1", "demo", "demo"))
    shot = reader.read()
    assert shot is not None and shot.image is not None
    return np.asarray(cv2.resize(shot.image, size), np.uint8)


# ------------------------------------------------------------------------------------------------ the broker


@contextmanager
def broker(link: str) -> Iterator[tuple[int, str, str]]:
    """Start a broker; give its pid, its address, and the directory of its keys or ""."""
    with tempfile.TemporaryDirectory() as folder:
        keys = ""
        if link == "tcp":
            keys = str(Path(folder) / "keys")
            make_keys(Path(keys), ROLES)
            port = free_port()
            address, publish = f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{port + 1}"
        else:
            address, publish = f"ipc://{folder}/work", f"ipc://{folder}/results"
        steps = [detect.step(detect.DetectSettings()), classify.step(classify.ClassifySettings())]
        rules = BrokerRules(BrokerSettings(), steps, sources=["clip"], encoding="raw")
        given = replace(
            make_assignment("broker", "broker", address, rules),
            module=BROKER.module,
            instance="/broker",
            publish=publish,
            max_message_bytes=PipelineSettings().broker.max_message_bytes,
            log_level="error",
            keys=keys,
        )
        child = ChildProcess(given, 1, Queue())
        child.start()
        try:
            yield child.pid, address, keys
        finally:
            child.kill()
            child.wait(10)
            child.close()


class Stages:
    """A capture, a detector, a classifier and a display that answer at once, in one loop."""

    def __init__(self, address: str, keys: str, frame: bytes, encoding: Any, size: tuple[int, int]) -> None:
        self.written = 0
        self._frame, self._encoding = frame, encoding
        self._shape: Shape = (size[1], size[0], 3)
        self._epoch = self._sent = self._credits = 0
        self._stack = ExitStack()
        source = SourceInfo("clip", "file", size[0], size[1], 30.0)
        hellos: dict[str, dict[str, Any]] = {
            "display": {"credits": 16},
            "detect": {"credits": 2, "fingerprint": "f"},
            "classify": {"credits": 2, "fingerprint": "f"},
            "capture": {"source": source},
        }
        self._sessions = {role: self._open(role, address, keys, more) for role, more in hellos.items()}

    def _open(self, role: str, address: str, keys: str, more: dict[str, Any]) -> Session:
        given: Assignment = replace(
            make_assignment(role, role, address), keys=keys, max_message_bytes=2**27, instance=f"/{role}"
        )
        hello = Hello(role, role, f"/{role}", os.getpid(), PROTOCOL, **more)
        return self._stack.enter_context(Session(given, lambda: hello))

    def turn(self) -> None:
        """Answer all that has come."""
        for role, session in self._sessions.items():
            while (received := session.receive(0)) is not None:
                self._answer(role, session, *received)
        capture = self._sessions["capture"]
        while self._credits > 0:
            self._credits -= 1
            header = Frame("clip", self._epoch, self._sent, time.monotonic_ns(), 0.0, self._shape)
            capture.send(replace(header, encoding=self._encoding), [self._frame])
            self._sent += 1

    def _answer(self, role: str, session: Session, message: Any, buffers: Any) -> None:
        match message:
            case Accept() if role == "capture":
                self._epoch, self._credits = message.epoch, 0
            case Grant():
                self._credits += message.credits
            case Work() if role == "detect":
                session.send(*detected(message, 1, step_ns=1_000_000))
            case Work():
                session.send(*classified(message, step_ns=1_000_000))
            case Delivery():
                self.written += 1
                done = Committed(self.written, self.written)
                session.send(Commit("clip", done, [1_000_000], 1_000_000), [b"{}" * 200])

    def close(self) -> None:
        self._stack.close()


def carry(link: str, encoding: str, size: tuple[int, int]) -> Carried:
    """Measure the CPU time that a broker takes for a frame."""
    image = picture(size)
    frame = to_jpeg(image, 90) if encoding == "jpeg" else image.tobytes()
    with broker(link) as (pid, address, keys):
        stages = Stages(address, keys, bytes(frame), encoding, size)
        process = psutil.Process(pid)
        try:
            until(stages, WARM_UP)
            before, first = process.cpu_times(), stages.written
            until(stages, WARM_UP + FRAMES)
            after, last = process.cpu_times(), stages.written
        finally:
            stages.close()
    cpu_s = after.user + after.system - before.user - before.system
    return Carried(link, encoding, f"{size[0]}×{size[1]}", len(frame), 1e3 * cpu_s / (last - first))


def until(stages: Stages, written: int) -> None:
    deadline_s = time.monotonic() + 120
    while stages.written < written:
        stages.turn()
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{stages.written} of {written} frames came in two minutes")


# --------------------------------------------------------------------------------------------- the workers


def cpu_ms(step: Any, times: int) -> float:
    """Return the median CPU time of a call, ms, of this process."""
    step()
    found = []
    for _ in range(times):
        before_s = time.process_time()
        step()
        found.append(1e3 * (time.process_time() - before_s))
    return statistics.median(found)


def write_clip(path: Path, size: tuple[int, int]) -> None:
    """Write a second of the demo as H.264, as network cameras send it."""
    reader = DemoReader(SourceSpec("demo:1", "demo", "demo"))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for _ in range(25):
            shot = reader.read()
            assert shot is not None and shot.image is not None
            image = np.asarray(cv2.resize(shot.image, size), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24")))
        container.mux(stream.encode())


def decode_ms(size: tuple[int, int]) -> float:
    """Return the CPU time of decoding a frame of such a clip, ms."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_clip(path, size)
        spec = SourceSpec(str(path), "video", "clip")
        with closing(open_reader(spec, CaptureSettings())) as reader:
            reader.read()
            before_s, frames = time.process_time(), 0
            while reader.read() is not None:
                frames += 1
            return 1e3 * (time.process_time() - before_s) / frames


def workers() -> dict[str, float]:
    """Return CPU milliseconds: of searching, decoding and encoding a frame, and of naming a face."""
    cv2.setNumThreads(1)
    found = {}
    detector = open_detector(detect.DetectSettings())
    for size in SIZES:
        image = picture(size)
        name = f"{size[0]}×{size[1]}"
        found[f"detect {name}"] = cpu_ms(lambda image=image: detector.detect(image), 15)
        found[f"H.264 decoded, {name}"] = decode_ms(size)
        found[f"JPEG made, {name}"] = cpu_ms(lambda image=image: to_jpeg(image, 90), 15)
    classifier = open_classifier(classify.resolve(classify.ClassifySettings())[0])
    for batch in BATCHES:
        crops = np.random.default_rng(0).integers(0, 255, (batch, 48, 48), np.uint8)
        whole = cpu_ms(lambda crops=crops: classifier(crops), 15)
        found[f"classify a face, batch of {batch}"] = whole / batch
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    print(HEADER)
    figures = []
    for size in SIZES:
        for encoding in ("raw", "jpeg"):
            for link in ("ipc", "tcp"):
                runs = [carry(link, encoding, size) for _ in range(options.runs)]
                one = runs[0]._replace(cpu_ms=statistics.median(run.cpu_ms for run in runs))
                figures.append(one)
                print(one.line(), flush=True)
    print("\n| a core as worker | CPU ms | a second |\n|---|---|---|")
    found = workers()
    for name, value in found.items():
        print(f"| {name} | {value:.2f} | {1000 / value:.0f} |")
    return {"broker": [one._asdict() for one in figures], "workers_cpu_ms": found}


if __name__ == "__main__":
    sys.exit(run_program(measure, make_parser("tools.capacity", __doc__, runs=3).parse_args()))
