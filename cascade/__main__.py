"""`python -m cascade`: the command line, for who knows an interpreter and not where its scripts are."""

import sys

from cascade.cli import main

if __name__ == "__main__":
    sys.exit(main())
