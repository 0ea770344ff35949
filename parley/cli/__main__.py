"""`python -m parley.cli`: the same as `parley`, for an interpreter whose scripts are not on PATH."""

import sys

from parley.cli import main

if __name__ == "__main__":
    sys.exit(main())
