"""Whether nights keep what the gate promises, however many there are, and how soon they find a true gain: thirty nights
simulated again and again with our own gate.

Run it: make bench, or .venv/bin/python benchmarks/nights.py (seconds). With --full, minutes, it takes 10,000 histories
of 30 nights for each share that must stay small, 2,000 for the others, and writes docs/nights.md. With --practice
it says instead on how many examples of dev the programs of this project's runs differ.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from _nights.histories import NIGHTS
from _nights.page import nothing_gained, power, tables, write
from _nights.practice import practice

ROOT = Path(__file__).parents[1]
FULL, QUICK = (10_000, 2_000), (500, 200)
"""Histories without and with a gain."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="compute the published figures and write them to docs/")
    parser.add_argument("--practice", action="store_true", help="show how programs of your own runs differ")
    arguments = parser.parse_args()
    if arguments.practice:
        print("\n".join(practice()))
        return
    (without, with_gain), started = FULL if arguments.full else QUICK, time.process_time()
    document: dict[str, Any] = {
        "nights": NIGHTS,
        "nothing": nothing_gained(without, NIGHTS),
        "power": power(with_gain, NIGHTS),
    }
    document["seconds"] = round(time.process_time() - started)
    if arguments.full:
        write(ROOT, document)
    print("\n\n".join(tables(document).values()))
    if not arguments.full:
        print("\nSo few histories leave the bounds wide; --full does not.")


if __name__ == "__main__":
    main()
