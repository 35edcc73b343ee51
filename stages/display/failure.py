"""What is raised when an output breaks while the run is under way."""

import os

from pipeline.errors import LateError, UserError


class OutputFailed(LateError):  # noqa: N818 - said of what happened, as the log line does
    """An output that was open can no longer be written, told in one line.

    It happens after the first frame, so that the run ends with status 1.
    """

    def __init__(self, what: str, path: str | os.PathLike[str], reason: str | Exception) -> None:
        super().__init__(f"{what} {os.fspath(path)}: cannot be written any more: {why(reason)}")


def not_writable(what: str, path: str | os.PathLike[str], error: OSError) -> UserError:
    """Return the error for an output that cannot be opened."""
    return UserError(f"{what} {os.fspath(path)}: cannot be written: {why(error)}; name a file that can")


def why(reason: str | Exception) -> str:
    """The reason in words, of a system's error without its number and path."""
    return (reason.strerror if isinstance(reason, OSError) else None) or str(reason)
