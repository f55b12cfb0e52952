"""Which program answers whom, and when nobody is sent to the challenger any more.

Invariant: the arm of a key is the same in every process and after every restart, for as long as its test lasts; and
once the outcomes say that a challenger does harm, it answers nobody, and only another version can be a challenger.
"""

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from cascade.errors import JournalError
from cascade.mlflow_store.registry import CHALLENGER, CHAMPION
from cascade.production.ab import Action, Evidence, advise, assign, first_of_each_key
from cascade.production.ab.outcomes import Books, Said, Test, of_test
from cascade.production.live import Served
from cascade.production.serving.forms import form_of

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """Where a key belongs.

    Args:
        arm: alias of who answers.
        test, share: of the A/B test; "" and 0 where there is none.
        key: its hash.
    """

    arm: str
    test: str = ""
    share: float = 0.0
    key: str = ""


class Arms:
    """The A/B test of one experiment.

    Args:
        share: of the keys that the challenger answers; 0 is no test.
        tell, warn: told what changes.
    """

    def __init__(self, books: Books, share: float, *, tell: Tell, warn: Tell) -> None:
        self.books, self.share = books, share
        self.test: Test | None = None
        self._tell, self._warn = tell, warn
        self._counting = threading.Lock()
        self._read, self._counted, self._evidence = 0, set[str](), Evidence.at(share) if share else None

    def admit(self, new: Mapping[str, Served]) -> Mapping[str, Served]:
        """What of the versions that are loaded may serve; a test of the two begins, or goes on.

        A challenger that takes other requests than the champion is left out: those whom it answers would be refused.
        """
        champion, challenger = new[CHAMPION], new.get(CHALLENGER)
        if challenger is None or challenger.number == champion.number:
            self.test = None
            return {CHAMPION: champion}
        if form_of(challenger).schema != form_of(champion).schema:
            self._warn(f"version {challenger.number} takes other inputs than the champion: it is not served beside it.")
            self.test = None
            return {CHAMPION: champion}
        try:
            test = self.books.begin(champion.number, challenger.number, self.share)
        except (JournalError, OSError) as error:  # a full disk must keep nobody from rolling back
            self._warn(f"version {challenger.number} is not served beside version {champion.number}: {error}")
            self.test = None
            return {CHAMPION: champion}
        with self._counting:
            self._read, self._counted, self._evidence = 0, set(), Evidence.at(test.least)
            self.test = test
        self._tell(_begun(test))
        self.heard()
        return new

    def place(self, key: str, now: Mapping[str, Served]) -> Place:
        """Where a key belongs, given what is loaded."""
        test = self.test
        if test is None or test.stopped or CHALLENGER not in now:
            return Place(CHAMPION)
        if (now[CHAMPION].number, now[CHALLENGER].number) != (test.champion, test.challenger):
            return Place(CHAMPION)
        digest = hashlib.sha256(f"{test.salt}\0{key}".encode("utf-8", "surrogatepass")).hexdigest()[:24]
        return Place(assign(key, salt=test.salt, share=test.share).value, test.id, test.share, digest)

    def heard(self) -> None:
        """Count what was said since the last time, by whatever process, and stop the challenger if it does harm.

        Where another process stopped it, it is stopped here, too: that one may have looked when this one did not.

        Raises:
            OSError: the outcomes cannot be read.
            JournalError: that it is stopped cannot be written; it is stopped all the same.
        """
        with self._counting:
            test = self.test
            if test is None or test.stopped:
                return
            if known := next((one for one in self.books.tests() if one.id == test.id and one.stopped), None):
                self.test = known
                self._warn(f"version {test.challenger} answers nobody any more. {known.stopped}")
                return
            for said, end in self.books.since(self._read):
                self._read = end
                if self._harmed_by(said, test):
                    return

    def _harmed_by(self, said: list[Said], test: Test) -> bool:
        fresh = first_of_each_key(of_test(said, test), self._counted)
        if not fresh or self._evidence is None:
            return False
        self._counted.update(outcome.key for outcome in fresh)
        self._evidence = self._evidence.after(fresh)
        advice = advise(self._evidence, test.rules)
        if advice.action is Action.STOP:
            self._stop(test, advice.reason, advice.to_json())
        return advice.action is Action.STOP

    def _stop(self, test: Test, reason: str, figures: Mapping[str, object]) -> None:
        self.test = replace(test, stopped=reason)
        self._warn(f"version {test.challenger} answers nobody any more. {reason}")
        self.test = self.books.stop(test, reason, figures)


def _begun(test: Test) -> str:
    if test.stopped:
        return f"version {test.challenger} was stopped as a challenger before, and answers nobody: {test.stopped}"
    return f"version {test.challenger} answers {test.share:.4g} of all keys beside version {test.champion}."
