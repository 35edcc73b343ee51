"""A checkout that is none: its run.py writes records and a summary at once, and starts nothing."""

from pathlib import Path

_FAKE = """
import json, os, signal, sys, time
from pathlib import Path

signal.signal(signal.SIGINT, lambda *_: sys.exit(130))

words = sys.argv[1:]
given = dict(zip(words, words[1:]))
settings = dict(word.split("=", 1) for word in words if "=" in word)
Path("seen.json").write_text(json.dumps({"words": words, "cwd": os.getcwd()}))
results = Path(given["--results"])
frames = int(settings.get("capture.max_frames", 3))
status = settings.get("fake.status", "ok")
record = {"source": "demo", "time_s": 0.0, "status": status, "latency_ms": 20.0, "faces": [{}, {}]}
results.write_text((json.dumps(record) + "\\n") * frames)
if "fake.error" in settings:
    print("12:00:00 run: nothing of importance\\nerror: " + settings["fake.error"], file=sys.stderr)
    sys.exit(2)
if "fake.endless" in settings:
    time.sleep(300)
print(f"demo: captured {frames} = ok {frames}")
print(f"{frames} frames in 2.0 s: {settings['fake.fps']} frames/s; latency p50 20 ms, p95 20 ms")
"""


def make_fake(folder: Path) -> Path:
    """Make the folder and its run.py; return the folder.

    It obeys settings: `fake.fps` is the rate that it reports, `fake.status` the status of its records; with
    `fake.error` it ends with status 2, with `fake.endless` when it is told to.
    """
    folder.mkdir()
    (folder / "run.py").write_text(_FAKE, encoding="utf-8")
    return folder
