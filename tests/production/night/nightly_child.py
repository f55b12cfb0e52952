"""A process that holds the second night of a project, slowly, to be killed: `python nightly_child.py FOLDER`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from test_night_nightly import hold, learns

from cascade.progress import Silent
from cascade.testing import ScriptedEngine

if __name__ == "__main__":
    hold(Path(sys.argv[1]), ScriptedEngine(learns, latency=0.01), progress=Silent())
