"""Whether nights keep what the gate promises, however many there are, and how soon they find a true gain: thirty nights
simulated again and again with our own gate.

Run it: make bench, or .venv/bin/python benchmarks/nights.py (seconds). With --full, minutes, it takes 2,000 histories
of 30 nights for each figure and writes docs/nights.md.
"""

import argparse
import time
from pathlib import Path

from _nights.histories import NIGHTS
from _nights.page import nothing_gained, power, tables, write

ROOT = Path(__file__).parents[1]
FULL, QUICK = 2_000, 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="compute the published figures and write them to docs/")
    arguments = parser.parse_args()
    count, started = FULL if arguments.full else QUICK, time.process_time()
    document = {
        "histories": count,
        "nights": NIGHTS,
        "nothing": nothing_gained(count, NIGHTS),
        "power": power(count, NIGHTS),
    }
    document["seconds"] = round(time.process_time() - started)
    if arguments.full:
        write(ROOT, document)
    print("\n\n".join(tables(document).values()))
    if not arguments.full:
        print("\nSo few histories leave the bounds wide; --full does not.")


if __name__ == "__main__":
    main()
