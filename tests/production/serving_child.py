"""`cascade serve` in a process of its own, on a script: FOLDER LATENCY OPTIONS…"""

import os
import sys
from pathlib import Path

from by_hand_versions import Shop

from cascade.cli import main
from cascade.cli.parts import Parts

if __name__ == "__main__":
    folder, latency, *options = sys.argv[1:]
    shop = Shop(Path(folder), f"sqlite:///{folder}/mlflow.db")
    shop.engine.latency = float(latency)
    os.chdir(folder)
    sys.exit(main(["serve", "qa", "--port", "0", "--json", *options], parts=Parts(lms=shop.lms)))
