"""Hold back what native libraries write to stderr."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from pipeline.common.errors import UserError


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
    """Return a file in memory where the system has that, so that a full disk does not prevent a start."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("stderr"), "w+b")  # noqa: PTH123 - there is no path
    return tempfile.TemporaryFile()
