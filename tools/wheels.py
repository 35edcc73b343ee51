"""`python -m tools.wheels`: whether all of requirements.txt has wheels on each platform.

It has pip resolve the pins and what they depend on for each system and Python, without installing anything,
and prints a table (Markdown). It exits with 1 if a wheel is missing. pip evaluates the conditions of
dependencies (`; sys_platform == …`) for the machine that this runs on.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from pipeline.common.files import PROJECT

PYTHONS: Final = ("3.11", "3.12", "3.13")

MACOS: Final = 14
"""The oldest that ONNX Runtime supports."""

GLIBC: Final = 28
"""2.28, of 2018: that of Debian 10. A Raspberry Pi 5 needs Debian 12, which has 2.36."""


def manylinux(machine: str) -> list[str]:
    """The platforms of wheels that run with GLIBC and before."""
    return [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC, 16, -1)] + [f"manylinux2014_{machine}"]


PLATFORMS: Final = {
    f"Linux x86_64, glibc 2.{GLIBC}": manylinux("x86_64"),
    f"Linux aarch64, glibc 2.{GLIBC} (Raspberry Pi 5)": manylinux("aarch64"),
    f"macOS {MACOS} arm64": [f"macosx_{MACOS}_0_arm64"],
    "Windows x86_64": ["win_amd64"],
}


def resolve(requirements: Path, platforms: list[str], python: str) -> tuple[int, str]:
    """Return the number of wheels that pip would install, or 0 and why there is none of a package."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        command += ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
        command += ["--target", folder, "--report", str(report), "--requirement", str(requirements)]
        command += [f"--platform={platform}" for platform in platforms]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return 0, failure(done.stderr)
        return len(json.loads(report.read_text(encoding="utf-8"))["install"]), ""


def failure(said: str) -> str:
    """Return the package that pip names last in its errors, or its last line."""
    named = re.findall(r"No matching distribution found for (\S+)", said)
    return f"no {named[-1]}" if named else said.strip().rpartition("\n")[2]


def main() -> int:
    """Print the table; return the exit status."""
    print("| |", " | ".join(f"Python {python}" for python in PYTHONS), "|")
    print("|---|" + "---|" * len(PYTHONS))
    complete = True
    for name, platforms in PLATFORMS.items():
        found = [resolve(PROJECT / "requirements.txt", platforms, python) for python in PYTHONS]
        complete &= all(count for count, _ in found)
        print(f"| {name} |", " | ".join(why or f"{count} wheels" for count, why in found), "|", flush=True)
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
