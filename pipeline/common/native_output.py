"""The standard streams: they take any text, and what native libraries write to stderr is held back."""

import io
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from pipeline.common.errors import UserError


def take_any_text() -> None:
    """Let standard output and error take any text: what their encoding lacks is escaped, as `\\xf6`.

    A standard stream that is closed (`>&-`) becomes /dev/null, so that no other file gets its number.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, number)
            if nothing != number:
                os.close(nothing)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8"))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a program that imports this may have put another there
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def quiet_native() -> Iterator[None]:
    """Hold back what native code writes to stderr; print it if the block raises anything but a UserError.

    TensorFlow writes its first lines before any of its log levels apply, so no variable silences them.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr = os.dup(2)
    with _buffer() as buffer:
        os.dup2(buffer.fileno(), 2)
        try:
            yield
        except UserError:
            raise  # its message is complete
        except BaseException:
            os.dup2(stderr, 2)
            buffer.seek(0)
            os.write(2, buffer.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _buffer() -> IO[bytes]:
    """Return a file in memory if the system has that: a full disk must not prevent a start."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("stderr"), "w+b")  # noqa: PTH123 - there is no path
    return tempfile.TemporaryFile()
