"""MLflow keeps an ID of the machine for its telemetry, in the user's home, as soon as it is imported."""

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import os, sys
from cascade.mlflow_store.store import reaching
with reaching(f"sqlite:///{sys.argv[1]}/mlflow.db", "could not be read", "Nothing was read.", ours=sys.argv[2] == "ours"):
    from mlflow.telemetry.utils import is_telemetry_disabled
print(is_telemetry_disabled(), os.environ.get("MLFLOW_DISABLE_TELEMETRY"))
"""
HIDDEN = ("MLFLOW_", "CI", "PYTEST", "GITHUB", "DO_NOT_TRACK", "XDG_")
"""By these MLflow knows that it is tested, or where to write."""


def told(folder: Path, whose: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN)}
    command = [sys.executable, "-c", CODE, str(folder), whose]
    environ = {**kept, "HOME": str(folder), **environment}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout


def test_a_process_of_cascades_has_no_telemetry_and_writes_no_id_of_the_machine(tmp_path: Path) -> None:
    assert told(tmp_path, "ours") == "True true\n"
    assert not list(tmp_path.rglob("telemetry.json"))


def test_a_service_that_loads_a_program_goes_by_its_own_settings(tmp_path: Path) -> None:
    assert told(tmp_path, "a service's", DO_NOT_TRACK="true") == "True None\n"
