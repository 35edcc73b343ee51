"""Fuzzes each target for a time and prints the figures: `python -m tools.fuzz --seconds 600`."""

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from tools.fuzz.seeds import write_seeds
from tools.fuzz.targets import TARGETS

MEMORY_MB: Final = 1024
INPUT_S: Final = 30
"""How much memory and, on a busy machine, time one input may take."""

LONGEST: Final = {"decoder": 65_536, "siege": 4096, "onnx": 16_384}  # bytes of an input


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="for each target")
    parser.add_argument("--target", choices=list(TARGETS), action="append", help="this one only")
    parser.add_argument("--corpus", type=Path, help="folder of inputs to go on from, and to add to")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("error: atheris is missing: pip install -r requirements-fuzz.txt", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as place:
        corpus = arguments.corpus or Path(place)
        figures = [fuzz(target, arguments.seconds, corpus) for target in arguments.target or TARGETS]
    text = json.dumps(figures, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")
    return 1 if any(found["crashes"] for found in figures) else 0


def fuzz(target: str, seconds: int, corpus: Path) -> dict[str, Any]:
    """Fuzz one target and return the figures. What crashes it is kept in the corpus as `TARGET-crash-…`."""
    folder = corpus / target
    write_seeds(target, folder)
    command = [
        sys.executable, "-m", "tools.fuzz.worker", target, str(folder), f"-max_total_time={seconds}",
        f"-rss_limit_mb={MEMORY_MB}", f"-timeout={INPUT_S}", f"-max_len={LONGEST[target]}",
        f"-artifact_prefix={corpus}/{target}-", "-print_final_stats=1",
    ]  # fmt: skip
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    crashes = sorted(path.name for path in corpus.glob(f"{target}-*"))
    if done.returncode:
        print(done.stderr[-4000:], file=sys.stderr)
    return {
        "target": target,
        "seconds": seconds,
        "executions": last(r"stat::number_of_executed_units:\s+(\d+)", done.stderr),
        "coverage_edges": last(r"cov: (\d+)", done.stderr),
        "inputs_kept": last(r"corp: (\d+)", done.stderr),
        "peak_rss_mb": last(r"stat::peak_rss_mb:\s+(\d+)", done.stderr),
        "status": done.returncode,
        "crashes": crashes,
    }


def last(pattern: str, text: str) -> int | None:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else None


if __name__ == "__main__":
    sys.exit(main())
