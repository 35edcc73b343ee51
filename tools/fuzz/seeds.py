"""The inputs from which the fuzzer starts: valid messages, short sieges, and small networks."""

import random
from pathlib import Path

from pipeline.wire.codec import encode
from pipeline.wire.messages import Accept, Clock, Committed, Died, Goodbye, Grant, Heartbeat, StatusReport
from tests.support.broker_world import make_no_frame, make_report
from tests.support.graphs import plain, quantised
from tests.support.wire_examples import EXAMPLES
from tools.fuzz.targets import join

SIEGES = 40


def write_seeds(target: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    seeds = {"decoder": decoder_seeds, "siege": siege_seeds, "onnx": onnx_seeds}
    for number, data in enumerate(seeds[target]()):
        (folder / f"seed-{number}").write_bytes(data)


def decoder_seeds() -> list[bytes]:
    report: StatusReport = make_report(batches={8: 2}, latency_ns=[5])
    more = [
        make_no_frame(3), Heartbeat(), Clock(1, 2), Goodbye(), Died("run/detect"), report,
        Grant("clip", 3, Committed(2, dropped={"stale": 2})),
        Accept("b", committed={"clip": Committed(1, 1)}),
    ]  # fmt: skip
    return [join(encode(*example)) for example in [*EXAMPLES, *((message, []) for message in more)]]


def siege_seeds() -> list[bytes]:
    """Random bytes of different lengths."""
    chance = random.Random(0)
    return [chance.randbytes(50 * (1 + number % 20)) for number in range(SIEGES)]


def onnx_seeds() -> list[bytes]:
    return [plain().SerializeToString(), quantised().SerializeToString()]
