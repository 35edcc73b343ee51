"""`python -m bench.loops`: one job of the benchmark, read from standard input; see `job`."""

import importlib
import signal
import sys
from typing import Final

import msgspec

from bench.job import Job
from pipeline.child import die_with_parent
from pipeline.errors import UserError

MODULES: Final = {
    "probe": "bench.clip",
    "scale": "bench.scale",
    "tutorial": "bench.tutorial",
    "plain": "bench.plain",
    "bare": "bench.bare",
}
"""Where the function `run(job)` of each kind is."""


def main() -> int:
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    die_with_parent(job.parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        answer = importlib.import_module(MODULES[job.kind]).run(job)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
