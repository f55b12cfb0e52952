"""Whether the verdicts hold what they promise: misses of the intervals, false verdicts of whole cascades, power, and
how far the dev score of the chosen program is above the truth, all simulated with our own methods.

Run it: make bench, or .venv/bin/python benchmarks/calibration.py (under a minute). With --full, minutes, it writes the
figures, tables and pictures of docs/calibration.md; --only PART computes that part anew and keeps the others.
"""

import argparse
import json
import time
from pathlib import Path

from _calibration.figures import FULL, PARTS, QUICK
from _calibration.page import FIGURES, tables, write

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="compute the published figures and write them to docs/")
    parser.add_argument("--only", choices=PARTS, action="append", help="compute this part alone; may be given again")
    arguments = parser.parse_args()
    effort = FULL if arguments.full else QUICK
    file = ROOT / FIGURES
    document = json.loads(file.read_text("utf-8")) if arguments.full and file.exists() else {"seconds": {}}
    for part in arguments.only or PARTS:
        started = time.perf_counter()
        document[part] = PARTS[part](effort)
        document["seconds"][part] = round(time.perf_counter() - started)
    if arguments.full:
        write(ROOT, document)
    elif not arguments.only:
        print("\n\n".join(tables(document).values()))
        print("\nSo few simulations put the worst of many cells some points above the truth; --full does not.")
        print(json.dumps({"seconds": document["seconds"]}))


if __name__ == "__main__":
    main()
