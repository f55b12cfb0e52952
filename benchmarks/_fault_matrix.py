"""Injects every fault of tests/faults into a small cascade, prints what the user sees and what is kept, and writes the
table into docs/faults.md.

Run it: make faults
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "faults"))

import fault_matrix


def main() -> None:
    print(fault_matrix.HEAD, end="")
    rows = []
    for row in fault_matrix.table():
        print(row, flush=True)
        rows.append(row)
    fault_matrix.write(rows)


if __name__ == "__main__":
    main()
