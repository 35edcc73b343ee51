"""A whole run, with its processes, as an iterator of records."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Final

import msgspec

from pipeline.common.errors import UserError
from pipeline.common.files import python_path
from stages.display.record import Record

END_S: Final = 15.0
"""A run that was told to end takes at most some 7 s; one that hangs for longer is killed."""

log = logging.getLogger("emotions")


def watch(
    sources: str | Path | Sequence[str | Path],
    *settings: str,
    display: str = "none",
    config: str | Path | None = None,
) -> "Watch":
    """Return a run of the pipeline with its processes, to be iterated: it yields the records as they come.

    sources: one or several, as for --source. settings: as on the command line, such as "detect.workers=1".
    display: none or window. The run begins with `with` or with the first record. It ends with its sources, or
    when the `with` block or the loop is left; then no process of it is left. What it says goes to the logger
    `emotions`. Raises Error, in the loop, for a run that was refused or did not end well.
    """
    several = [sources] if isinstance(sources, str | Path) else list(sources)
    words = [f"--source={source}" for source in several]
    words += [f"--display={display}", "--results=-", *(f"--set={setting}" for setting in settings)]
    words.append("--set=log.json=false")  # errors are read as they stand in the plain log
    if config is not None:
        words.append(f"--config={config}")
    return Watch(words)


class Watch:
    """A run. Slow readers slow files down, and make live sources drop frames; nothing piles up."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)
        self._run: _Run | None = None
        self._end: weakref.finalize[[], Watch] | None = None
        self._closed = False

    def __enter__(self) -> "Watch":
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Record]:
        """Yield the records until the run ends. Raises Error if it does not end well."""
        run = self._start()
        decoder = msgspec.json.Decoder(Record)
        status = 0
        try:
            for line in run.lines:
                yield decoder.decode(line)
                if self._closed:  # by the loop's own body
                    return
            status = run.process.wait()
        finally:
            self.close()
        if status:
            raise UserError(run.errors[0] if run.errors else f"the run ended with status {status}")

    def close(self) -> None:
        """End the run in order, and wait for its end. May be called again."""
        self._closed = True
        if self._end is not None:
            self._end()  # once

    def _start(self) -> "_Run":
        if self._closed:
            raise UserError("watch: this run is over; call watch(…) again")
        if self._run is None:
            self._run = _Run(self._words)
            # Also when nobody holds this any more, and before the interpreter ends.
            self._end = weakref.finalize(self, self._run.end)
        return self._run


class _Run:
    """The process of a run, and the thread that hears what it says."""

    def __init__(self, words: Sequence[str]) -> None:
        self.errors: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pipeline.api.watch", *words],
            env=os.environ | {"PYTHONPATH": python_path()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is the caller's, who then ends the run
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def lines(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def end(self) -> None:
        """Ask the run to end, wait, and kill it if it does not."""
        process = self.process
        assert process.stdin is not None and process.stderr is not None
        self.lines.close()  # nobody reads on: the run must not wait for that
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()  # which asks it to end
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()  # its processes end with it
            process.wait()
        self._listener.join()
        process.stderr.close()

    def _listen(self) -> None:
        """Pass on what the run says."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            text = line.decode(errors="replace").rstrip()
            if text.startswith("error: "):
                self.errors.append(text.removeprefix("error: "))
            log.info("%s", text)


def end_with_stdin() -> None:
    """End in order, as after SIGTERM, once the program that watches has closed its end, or is gone."""
    os.read(sys.stdin.fileno(), 1)
    signal.raise_signal(signal.SIGTERM)


if __name__ == "__main__":  # the process of a run: the command line, which ends with its standard input
    from pipeline.cli.main import main

    threading.Thread(target=end_with_stdin, daemon=True).start()
    sys.exit(main())
