"""The run behind `watch`: the command line, which ends when its standard input does.

So it ends with the program that watches, however that ends.
"""

import os
import signal
import sys
import threading

from pipeline.cli.main import main


def end_with_stdin() -> None:
    """Ask for a clean end, as SIGTERM does, once nobody holds the other end of standard input."""
    os.read(sys.stdin.fileno(), 1)
    signal.raise_signal(signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=end_with_stdin, daemon=True).start()
    sys.exit(main())
