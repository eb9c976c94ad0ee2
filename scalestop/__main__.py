"""`python -m scalestop`: the command line, for where the `scalestop` script is not on the path."""

import sys

from scalestop.cli import main

if __name__ == "__main__":
    sys.exit(main())
