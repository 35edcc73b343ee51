"""`python -m tools.soak --minutes 10`: does anything grow in a run that goes on?

A camera, which this process serves, and a file that is played again and again, recorded and written down.
Memory, open files and threads of every process are looked at each second, and the latency of every frame;
behind the warm-up a line is fitted to each. Ends with 1 if one of them grows beyond its bound.
"""

import argparse
import json
import os
import platform
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.support.mjpeg import MjpegCamera
from tools.faults.__main__ import OPTIONS, starter
from tools.soak.plot import plot
from tools.soak.soak import Finding, findings, watch

KEPT_EVERY_S = 30
"""Of the samples, so many seconds apart are written down."""

ENDLESS = ("--set", "capture.repeat=0", "--set", "capture.pace_fps=10", "--source", "demo:2")


def row(finding: Finding) -> str:
    """A line of the table; memory in kB."""
    scale = 1 / 1024 if finding.what == "rss_bytes" else 1.0
    mean, per_minute, error = (scale * value for value in finding.slope)
    what = finding.what.replace("rss_bytes", "RSS, kB")
    said = "**grows**" if finding.grows else "flat"
    return f"| {finding.process} | {what} | {mean:.1f} | {per_minute:+.2f} ± {error:.2f} | {said} |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--warm-up", type=float, metavar="MINUTES", help="left out (default: a fifth)")
    parser.add_argument("--set", action="append", default=[], metavar="table.key=value")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them there, .png")
    options = parser.parse_args()
    settings = [word for one in options.set for word in ("--set", one)]
    with ExitStack() as stack:
        camera = stack.enter_context(MjpegCamera())
        start, folder = stack.enter_context(starter())
        outputs = "--results", folder / "r.jsonl", "--record", folder / "v.mkv"
        run = start(*OPTIONS, *ENDLESS, *settings, "--source", camera.url, *outputs)
        samples, latencies = watch(run, folder / "r.jsonl", 60 * options.minutes)
        run.signal(signal.SIGINT)
        done = run.end()
    warm_up = options.minutes / 5 if options.warm_up is None else options.warm_up
    found = findings(samples, latencies, 60 * warm_up)
    print(done.stdout)
    print("| process | what | mean | a minute | |\n|---|---|---|---|---|")
    print("\n".join(map(row, found)))
    if options.json:
        slopes = [one._asdict() | {"slope": one.slope._asdict(), "grows": one.grows} for one in found]
        figures = {"minutes": options.minutes, "warm_up": warm_up, "summary": done.stdout, "slopes": slopes}
        kept = [one._asdict() for one in samples if int(one.time_s) % KEPT_EVERY_S == 0]
        figures |= {"machine": f"{os.cpu_count()} cores, {platform.machine()}", "samples": kept}
        options.json.write_text(json.dumps(figures) + "\n", encoding="utf-8")
    if options.plot:
        plot(samples, latencies, options.plot)
    return 1 if any(one.grows for one in found) or done.status != 130 else 0


if __name__ == "__main__":
    sys.exit(main())
