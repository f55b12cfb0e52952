"""Programs that follow the aliases of a model: loaded, kept up to date, let go.

Invariant: a call runs from its beginning to its end on one version, and a version is let go only when the last call on
it has ended; whatever fails while a newer one is looked for or loaded, what is loaded goes on.
"""

import contextlib
import json
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cascade.errors import Refused, TrackingError
from cascade.lm.embedded.models import write_json
from cascade.lm.lms import LMs
from cascade.mlflow_store.names import Names
from cascade.mlflow_store.programs import MakeLMs, Program, load_program, rebuild
from cascade.mlflow_store.registry import CHAMPION
from cascade.mlflow_store.store import connect, reaching
from cascade.mlflow_store.versions import Version, Versions
from cascade.redaction import told
from cascade.settings import Settings

REFRESH = 30.0
"""Seconds between two looks at the aliases."""


@dataclass(frozen=True)
class Target:
    """Which programs are meant, and under which LMs they run.

    Args:
        experiment: its name.
        aliases: that are followed; a version must have the first.
        lms: makes the LMs of which all versions share the embedded engine.
        admit: given the versions that are loaded, says which of them may serve together; the first alias must.
    """

    experiment: str
    settings: Settings
    aliases: Sequence[str] = (CHAMPION,)
    lms: MakeLMs = LMs
    admit: Callable[[Mapping[str, "Served"]], Mapping[str, "Served"]] = lambda loaded: loaded


class Served:
    """A version that is loaded.

    Args:
        number: of the version.
        program: ready to call.
    """

    def __init__(self, number: str, model_id: str, program: Program) -> None:
        self.number, self.model_id, self.program = number, model_id, program
        self.calls = 0
        self.form: Any = None
        """What a server made of its signature."""


class Live:
    """The versions that the aliases of a target name.

    Args:
        warn: told once of each trouble, from the thread that looks.
        tell: told of each change of version.
        refresh: seconds between two looks; 0 looks only when it is told to.
    """

    def __init__(
        self, target: Target, warn: Callable[[str], None], tell: Callable[[str], None], refresh: float = REFRESH
    ) -> None:
        self.target, self.refresh = target, refresh
        self.seen = 0.0
        self._warn, self._tell = warn, tell
        self._lms = target.lms(target.settings)
        self._now: Mapping[str, Served] = MappingProxyType({})
        self._retired: list[Served] = []
        self._refused: set[tuple[str, str]] = set()
        self._ended = threading.Event()
        self._trouble = ""
        self._pid = 0

    @property
    def now(self) -> Mapping[str, Served]:
        """What is loaded, by alias."""
        return self._now

    def start(self) -> "Live":
        """Load what the aliases name, and look again from time to time.

        Raises:
            Refused: nothing serves.
            TrackingError: MLflow cannot be reached, and nothing of it was served here before.
            SettingsError, ModelError: the program cannot be run here.
        """
        self._watch()
        with self._looking:
            try:
                self._follow(*self._named())
            except TrackingError as error:
                self._load_last(error)
        return self

    @contextlib.contextmanager
    def taken(self, choose: Callable[[Mapping[str, Served]], str] | None = None) -> Iterator[tuple[str, Served]]:
        """An alias and the version that it names now, for one call; `choose` picks an alias, else it is the first."""
        if self._pid != os.getpid():
            self._watch()
        with self._counting:
            alias = choose(self._now) if choose else self.target.aliases[0]
            served = self._now[alias]
            served.calls += 1
        try:
            yield alias, served
        finally:
            with self._counting:
                served.calls -= 1
                over = not served.calls and served in self._retired
            if over:
                self._let_go()

    def look(self) -> None:
        """See whether an alias moved; if so, load what it names and let new calls go there."""
        with self._looking:
            try:
                found = self._named()
            except Exception as error:
                self._warn_once("store", f"{_said(error)} What is loaded goes on serving.")
                return
            try:
                self._follow(*found)
            except Exception as error:
                self._warn_once(f"load {found[0]}", f"{_said(error)} What is loaded goes on serving.")
                return
            self._trouble = ""

    def close(self) -> None:
        """Look no more, and let go of everything once the calls in flight have ended."""
        self._ended.set()
        with self._looking, self._counting:
            self._retired += {*self._now.values()} - {*self._retired}
            self._now = MappingProxyType({})
        self._let_go()

    def _named(self) -> tuple[dict[str, str], dict[str, Version]]:
        """Version numbers by alias, and the versions that are not loaded.

        Raises:
            Refused: the first alias names none.
            TrackingError: MLflow cannot be reached, or lost the version.
        """
        settings, first = self.target.settings, self.target.aliases[0]
        model = Names(settings.experiment_prefix, settings.model_prefix).model(self.target.experiment)
        asked = "could not be asked which version serves"
        with reaching(settings.tracking_uri, asked, "It is asked again.", ours=False):
            versions = Versions(connect(settings.tracking_uri, ours=False), model)
            aliases = versions.aliases()
            named = {alias: aliases[alias] for alias in self.target.aliases if alias in aliases}
            named = {alias: n for alias, n in named.items() if (named.get(first), n) not in self._refused}
            fresh = {*named.values()} - {served.number for served in self._now.values()}
            found = {number: versions.numbered(number) for number in fresh}
        self.seen = time.time()
        if first not in named:
            raise Refused(
                f"Nothing serves for {self.target.experiment!r}: no version of {model!r} has the alias {first!r}. "
                f"Promote one with `cascade promote {self.target.experiment}`."
            )
        return named, found

    def _follow(self, named: Mapping[str, str], fresh: Mapping[str, Version]) -> None:
        """Load what is not loaded, and let new calls go there at once."""
        loaded = {served.number: served for served in self._now.values()}
        for number, version in fresh.items():
            # By its id: the alias may have moved on.
            program = load_program(f"models:/{version.model_id}", self.target.settings, lms=self._lms.under)
            loaded[number] = Served(number, version.model_id, program)
        self._swap({alias: loaded[number] for alias, number in named.items()})

    def _swap(self, new: Mapping[str, Served]) -> None:
        old = self._now
        if dict(old) == dict(new):
            return
        new = self._admitted(new)
        self._lms.hold(_models({*old.values(), *new.values()}))
        with self._counting:
            self._retired += {*old.values()} - {*new.values()}
            self._now = MappingProxyType(dict(new))
        for alias in self.target.aliases:
            if old.get(alias) is not new.get(alias):
                number = f"version {new[alias].number}" if alias in new else "no version"
                self._tell(f"{number} of {self.target.experiment!r} is loaded as its {alias}.")
        self._let_go()
        loaded = {alias: [served.number, served.model_id] for alias, served in new.items()}
        with contextlib.suppress(OSError):
            write_json(self._memory, loaded)

    def _admitted(self, new: Mapping[str, Served]) -> Mapping[str, Served]:
        """Those that may serve; the others are not loaded again beside this champion."""
        admitted, first = self.target.admit(new), new[self.target.aliases[0]]
        for alias, served in new.items():
            if alias not in admitted:
                self._refused.add((first.number, served.number))
                if served is not first:
                    served.program.lms.disconnect()
        return admitted

    def _let_go(self) -> None:
        """Free what is used by retired versions without calls, and by nothing else."""
        with self._counting:
            over = [served for served in self._retired if not served.calls]
            self._retired = [served for served in self._retired if served.calls]
            kept = {*self._now.values(), *self._retired}
        for served in over:
            with contextlib.suppress(Exception):  # a call that was answered must not fail by it
                self._lms.let_go(_models({served}) - _models(kept))
                served.program.lms.disconnect()

    def _warn_once(self, trouble: str, sentence: str) -> None:
        if self._trouble != trouble:
            self._trouble = trouble
            self._warn(sentence)

    def _watch(self) -> None:
        """Begin to look; again in a process that was forked, which has no threads, and the locks of who had them."""
        self._pid = os.getpid()
        self._counting, self._looking = threading.Lock(), threading.Lock()
        if self.refresh > 0:
            weakref.finalize(self, self._ended.set)
            watched = (weakref.ref(self), self._ended, self.refresh)
            threading.Thread(target=_look_on, args=watched, name="cascade-live", daemon=True).start()

    @property
    def _memory(self) -> Path:
        return self.target.settings.home / "production" / self.target.experiment / "loaded.json"

    def _load_last(self, error: TrackingError) -> None:
        """Load what this machine served last; raises `error` where there is no such thing."""
        programs, first = self.target.settings.home / "programs", self.target.aliases[0]
        try:
            last = {alias: (str(n), programs / str(id_)) for alias, (n, id_) in _read(self._memory).items()}
        except (OSError, ValueError, TypeError):
            last = {}
        there = {alias: found for alias, found in last.items() if found[1].is_dir() and alias in self.target.aliases}
        if first not in there:
            raise error
        made = {
            number: Served(number, folder.name, rebuild(folder, self.target.settings, lms=self._lms.under))
            for number, folder in {*there.values()}
        }
        self._warn_once("store", f"{error} What this machine served last is loaded.")
        self._swap({alias: made[number] for alias, (number, _) in there.items()})


def _models(served: set[Served]) -> set[str]:
    return set[str]().union(*(one.program.models for one in served))


def _read(path: Path) -> dict[str, list[str]]:
    return dict(json.loads(path.read_text("utf-8")))


def _said(error: Exception) -> str:
    said = told(error).removeprefix(f"{type(error).__name__}: ")
    return said if said.endswith(".") else f"{said}."


def _look_on(live: "weakref.ref[Live]", ended: threading.Event, seconds: float) -> None:
    """Look again and again, until nobody has the programs any more."""
    while not ended.wait(seconds):
        if (found := live()) is None:
            return
        found.look()
        del found
