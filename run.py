"""`python run.py --help` says what there is."""

import sys

INTERRUPTED_STATUS = 130

if __name__ == "__main__":
    try:
        from pipeline.cli.main import main

        sys.exit(main())
    except KeyboardInterrupt:  # Ctrl-C while the imports are under way
        sys.exit(INTERRUPTED_STATUS)
