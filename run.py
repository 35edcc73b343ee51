"""Starts the command line: see `python run.py --help`."""

import sys

USAGE_STATUS = 2
INTERRUPTED_STATUS = 130
OURS = ("pipeline", "stages", "bench")

if __name__ == "__main__":
    try:
        from pipeline.cli.main import main

        sys.exit(main())
    except KeyboardInterrupt:  # Ctrl-C during the imports
        sys.exit(INTERRUPTED_STATUS)
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package in OURS:
            raise
        print(
            f"error: the package {package!r} is not installed for {sys.executable}: start with `make run`, "
            "or install the requirements with `pip install -r requirements.txt`",
            file=sys.stderr,
        )
        sys.exit(USAGE_STATUS)
