"""What the figures were measured on, and with which versions."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import psutil  # type: ignore[import-untyped]

PACKAGES: Final = ("onnxruntime", "tensorflow", "keras", "opencv-python", "numpy", "pyzmq", "av", "msgspec")


def describe() -> dict[str, Any]:
    """Return the machine as a document. `load` is that of the last minute: other work spoils figures."""
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "os": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "load": round(psutil.getloadavg()[0], 2),
    }


def cores() -> int:
    """The cores that this process may use: a container may have fewer than the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # opencv has several wheels
        return "not installed"
