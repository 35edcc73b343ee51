"""`python run.py --help` says what there is."""

import sys

from pipeline.cli import main

if __name__ == "__main__":  # children are spawned: they import this file again
    sys.exit(main())
