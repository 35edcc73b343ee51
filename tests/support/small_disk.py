"""A small file system that a run writes to and that a test fills: a real one, in a mount namespace."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

LIMIT_S: Final = 20.0
_MOUNT: Final = 'mount -t tmpfs -o "$0" tmpfs "$1" && echo mounted && exec sleep infinity'


class Disk:
    """Mounted at `path` for those who are started `inside`; the test reaches it by `seen`."""

    def __init__(self, path: Path, holder: int) -> None:
        self.path = path
        self.inside = ["nsenter", "--target", str(holder), "--mount", f"--wd={Path.cwd()}"]
        self._root = Path(f"/proc/{holder}/root")

    def seen(self, path: Path) -> Path:
        """Where the test finds what a run calls `path`."""
        return self._root / path.relative_to("/")

    def fill(self, *others: Path) -> None:
        """Leave no byte free, nor in the last block of `others`."""
        for path in (self.path / "filler", *others):
            with self.seen(path).open("ab", buffering=0) as file:
                for size in (65_536, 1):
                    with contextlib.suppress(OSError):
                        while file.write(b"\n" * size):
                            pass

    def make_room(self) -> None:
        (self.seen(self.path) / "filler").unlink()


@contextlib.contextmanager
def small_disk(path: Path, options: str) -> Iterator[Disk]:
    """Mount a tmpfs of these `options` over `path`; skip the test where that is not permitted."""
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root mounts a file system to fill")
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _MOUNT, options, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None and holder.stderr is not None
            if holder.stdout.readline() != "mounted\n":
                pytest.skip(f"no file system can be mounted here: {holder.stderr.read().strip()}")
            yield Disk(path, holder.pid)
        finally:
            holder.kill()
