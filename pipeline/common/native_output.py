"""Native libraries without their chatter."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from pipeline.common.errors import UserError


@contextmanager
def quiet_native() -> Iterator[None]:
    """Within it, what native code writes to stderr is held back, and shown only if the block raises
    something else than a UserError.

    TensorFlow writes its first lines before any of its log levels apply: no variable silences them.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with _held() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except UserError:
            raise  # it says all that there is to say
        except BaseException:
            os.dup2(kept, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _held() -> IO[bytes]:
    """A file in memory where the system has that: a full disk must not keep a stage from starting."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("held"), "w+b")  # noqa: PTH123 - there is no path
    return tempfile.TemporaryFile()
