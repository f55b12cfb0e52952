"""The store of weights under `<home>/models`: the pinned base model, a smaller one, and what was trained from them.

It exists so that weights have names that mean one content. Invariant: a model is there when its sidecar
`<name>.json` is; the sidecar is written last, so a crash leaves no half of a model under a name.
"""

import fcntl
import hashlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cascade.errors import ModelError
from cascade.lm.embedded.source import SMOLLM2, Source, fetch_gguf

BASE = "smollm2-135m"
PREFIX = "embedded/"
"""What a model's name carries in `dspy.LM`: `embedded/smollm2-135m`."""
Recipes = Mapping[str, Mapping[str, Any]]
SMALLER: Recipes = {
    "smollm2-135m-small": {"quantisation": "Q8_0", "layers": (*range(10), *range(20, 30))},
}
"""Models that are made of the base on this machine, and what `requantise` is told."""

Progress = Callable[[str], None]


class Models:
    """Weights by name, as GGUF files with a sidecar each.

    Args:
        home: cascade's state folder; weights live in its folder `models`.
        source, smaller: where the base model comes from, and what can be made of it; tests pass small ones.
    """

    def __init__(self, home: Path, *, source: Source = SMOLLM2, smaller: Recipes = SMALLER) -> None:
        self.home = Path(home).absolute()
        self.folder = self.home / "models"
        self.source = source
        self.smaller = smaller

    def prepare(self, name: str = BASE, progress: Progress = lambda _step: None) -> Path:
        """Fetch the base model (Q8_0, 145 MB), or make a smaller one of it, if it is not there; returns its GGUF file.

        Idempotent, and safe from several processes at once: one works, the others wait.

        Raises:
            ModelError: it cannot be downloaded, it is not the pinned file, or the name is none of those.
        """
        name = name.removeprefix(PREFIX)
        if name not in (BASE, *self.smaller):
            known = ", ".join((BASE, *self.smaller))
            raise ModelError(f"{name!r} cannot be prepared. There are: {known}; others are trained from them.")
        with file_lock(self.folder / ".prepare.lock"):
            if not self._there(BASE):
                self._install_base(progress)
            if not self._there(name):
                self._make_smaller(name, progress)
        return self._gguf(name)

    def names(self) -> list[str]:
        """Names of the models that are there, sorted."""
        return sorted(file.stem for file in self.folder.glob("*.json") if self._there(file.stem))

    def path(self, name: str) -> Path:
        """The GGUF file of a model, given with or without `embedded/`; a smaller one is made if it is not there.

        Raises:
            ModelError: it is not there.
        """
        self.find(name)
        name = name.removeprefix(PREFIX)
        return self._gguf(name) if self._there(name) else self.prepare(name)

    def find(self, name: str) -> None:
        """Raise `ModelError` where a model is neither there nor can be made of the base model that is."""
        name = name.removeprefix(PREFIX)
        if self._there(name) or (name in self.smaller and self._there(BASE)):
            return
        there = ", ".join(self.names()) or "none"
        fix = "Train it again, or run `cascade models prepare`."
        if name in (BASE, *self.smaller):
            fix = f"Run `cascade models prepare{'' if name == BASE else f' {name}'}`."
        raise ModelError(f"No embedded model {name!r} in {self.folder}. There: {there}. {fix}")

    def identity(self, name: str) -> str:
        """First 12 hex digits of the SHA-256 of the weights' file.

        The file is read again only when its size or modification time changed.

        Raises:
            ModelError: the model is not there, or its content is no longer what was stored.
        """
        file, facts = self.path(name), self.facts(name)
        if _stamp(file) != facts.get("stamp"):
            found = sha256(file)
            if found != facts["sha256"]:
                raise ModelError(
                    f"The weights {file} are damaged: SHA-256 is {found}, stored was {facts['sha256']}. Delete this "
                    f"file and {self._sidecar(file.stem).name}, then run `cascade models prepare` or train again."
                )
            write_json(self._sidecar(file.stem), {**facts, "stamp": _stamp(file)})
        return str(facts["sha256"])[:12]

    def facts(self, name: str) -> dict[str, Any]:
        """The sidecar: sha256, source or base, quantisation, licence, chat template."""
        file = self._sidecar(self.path(name).stem)
        try:
            return dict(json.loads(file.read_text("utf-8")))
        except (OSError, ValueError) as error:
            raise ModelError(
                f"{file} cannot be read ({error}). Delete it, then run `cascade models prepare`."
            ) from None

    def vocabulary(self, name: str) -> dict[str, int]:
        """Token ids by text; read from the weights once for all models of a root, which takes seconds."""
        root = str(self.facts(name).get("root", name.removeprefix(PREFIX)))
        file = self._vocabulary(root)
        if not file.exists():
            from cascade.lm.embedded.gguf_file import GgufModel
            from cascade.lm.embedded.vocabulary import texts_of

            write_json(file, texts_of(GgufModel(self.path(name)).value("tokenizer.ggml.tokens")))
        return dict(json.loads(file.read_text("utf-8")))

    def add(self, gguf_path: Path, *, base: str, recipe: str) -> str:
        """Move fine-tuned weights into the store; returns their name, `<root of base>-<sha12>`.

        Content-addressed: the same weights get the same name and are stored once. Training trained weights
        again keeps the root's name, so that names do not grow.

        Args:
            gguf_path: a file on the same file system; it is gone afterwards.
            base: name of the weights that training started from.
            recipe: hash of everything that determined the training; see `find_trained`.
        """
        parent, digest = self.facts(base), sha256(gguf_path)
        root = parent.get("root", base.removeprefix(PREFIX))
        name = f"{root}-{digest[:12]}"
        inherited: dict[str, Any] = {
            key: parent[key] for key in ("quantisation", "licence", "chat_template") if key in parent
        }
        with file_lock(self.folder / ".store.lock"):
            self._store(gguf_path, name, {**inherited, "root": root, "base": parent["sha256"], "recipe": recipe})
            write_json(self._recipe(recipe), {"name": name})
        return name

    def find_trained(self, recipe_hash: str) -> str | None:
        """The name of the weights trained by this recipe, or None if they were never trained or were removed."""
        try:
            name = str(json.loads(self._recipe(recipe_hash).read_text("utf-8"))["name"])
        except (OSError, ValueError, KeyError):
            return None
        return name if self._there(name) else None

    def remove(self, name: str) -> None:
        """Delete a model; raises `ModelError` if it is not there."""
        file = self.path(name)
        # The sidecar goes first: without it the model is not there, whatever happens next.
        self._sidecar(file.stem).unlink(missing_ok=True)
        file.unlink(missing_ok=True)

    def _install_base(self, progress: Progress) -> None:
        from cascade.lm.embedded.gguf_file import chat_template, requantise

        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".prepare-", dir=self.folder) as scratch:
            shipped = fetch_gguf(self.source, Path(scratch), progress)
            progress("re-quantising to Q8_0")
            ready = requantise(shipped, Path(scratch) / "q8_0.gguf")
            facts = {"source": self.source.requirement, "member": self.source.member, "quantisation": "Q8_0"}
            facts |= {"licence": self.source.licence, "chat_template": chat_template(ready)}
            self._store(ready, BASE, facts)
            self.vocabulary(BASE)

    def _make_smaller(self, name: str, progress: Progress) -> None:
        from cascade.lm.embedded.gguf_file import requantise

        progress(f"making {name} of {BASE}")
        base, wanted = self.facts(BASE), self.smaller[name]
        with tempfile.TemporaryDirectory(prefix=".prepare-", dir=self.folder) as scratch:
            ready = requantise(self._gguf(BASE), Path(scratch) / "smaller.gguf", **wanted)
            facts = {"source": f"made of {BASE}", "quantisation": wanted["quantisation"]}
            facts |= {key: base[key] for key in ("licence", "chat_template")}
            write_json(self._vocabulary(name), self.vocabulary(BASE))
            self._store(ready, name, facts)

    def _store(self, file: Path, name: str, facts: dict[str, Any]) -> None:
        digest = sha256(file)
        os.replace(file, self._gguf(name))
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        record = {"sha256": digest, "stamp": _stamp(self._gguf(name)), "created": created, **facts}
        write_json(self._sidecar(name), record)

    def _there(self, name: str) -> bool:
        return bool(name) and "/" not in name and self._sidecar(name).exists() and self._gguf(name).exists()

    def _gguf(self, name: str) -> Path:
        return self.folder / f"{name}.gguf"

    def _sidecar(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _vocabulary(self, root: str) -> Path:
        return self.folder / f"{root}.vocabulary.json"

    def _recipe(self, recipe: str) -> Path:
        return self.folder / "recipes" / f"{recipe}.json"


@contextmanager
def file_lock(path: Path, should_stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Hold an exclusive lock on `path` across processes; polls `should_stop` while it waits.

    Raises:
        ModelError: `should_stop` said so before the lock was free.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        while not _try_lock(handle.fileno()):
            if should_stop():
                raise ModelError(f"Stopped while waiting for {path}, which another process or thread holds.")
            time.sleep(0.1)
        try:
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically: readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    scratch.write_text(json.dumps(value, indent=1, ensure_ascii=False), "utf-8")
    os.replace(scratch, path)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
