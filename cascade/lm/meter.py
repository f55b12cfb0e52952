"""Counts what LM calls cost, and refuses the one that would break a cap.

Invariant: a place is reserved before a call is sent, so that billed plus in flight never exceeds the cap on calls;
caps known only afterwards (tokens, dollars) are overshot by at most what is in flight. After the first refusal
everything is refused, answers from the ledger too, so that every queue in every optimizer drains at once.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import dspy

from cascade.errors import BudgetSpent, Interrupted, Stop
from cascade.experiment import Budget
from cascade.spending import JUDGING, Spent


class _Hold:
    """What runs inside `holding`; carried by DSPy's context, which reaches the threads that optimizers start."""

    refusal: BudgetSpent | None = None

    def __deepcopy__(self, memo: dict[int, object]) -> "_Hold":
        return self


class Meter:
    """The one counter of a run; shared by all threads, never copied.

    Args:
        budget: hard caps.
        before: what earlier attempts at the same run have spent, and `by_lm` what of it on which LM.
        clock: seconds that never go back.
        note: told of all that was spent, and by LM, after each call and before the next is counted.
    """

    def __init__(
        self,
        budget: Budget,
        *,
        before: Spent | None = None,
        by_lm: Mapping[str, Spent] | None = None,
        clock: Callable[[], float] = time.monotonic,
        note: Callable[[Spent, Mapping[str, Spent]], None] = lambda *_: None,
    ) -> None:
        self.budget = budget
        self.clock = clock
        self._note = note
        self.by_role: Counter[str] = Counter()
        self._before, self._by_lm = before or Spent(), dict(by_lm or {})
        self._judge = Spent()
        self._calls = self._hits = self._input_tokens = self._output_tokens = 0
        self._cost_usd: float | None = 0.0
        self._capped = any(cap is not None for cap in (budget.lm_calls, budget.tokens, budget.usd, budget.minutes))
        self._held = Spent()
        self._draining = 0
        self.abandoned = False
        self._in_flight = 0
        self._refusal: Stop | None = None
        self._started = clock()
        self._changed = threading.Condition()

    def __deepcopy__(self, memo: dict[int, object]) -> "Meter":
        return self

    @property
    def spent(self) -> Spent:
        """Everything so far, earlier attempts included."""
        with self._changed:
            return self._before + self._total(self.clock() - self._started)

    @property
    def spent_by_lm(self) -> dict[str, Spent]:
        """Calls, tokens and dollars by the LM's name, earlier attempts included."""
        with self._changed:
            return dict(self._by_lm)

    @property
    def in_flight(self) -> int:
        """Calls that were let through and have not ended."""
        with self._changed:
            return self._in_flight

    def reserve(self, places: int = 1) -> None:
        """Take a place for one call; raises `BudgetSpent` or `Interrupted` instead of letting it be sent.

        Args:
            places: 0 for a call of which nobody will say that it ended without an answer.
        """
        with self._changed:
            self._refuse()
            if self._capped and (sentence := self._exceeded()):
                self._refusal = BudgetSpent(sentence)
                self._refuse()
            self._in_flight += places

    def release(self) -> None:
        """Give the place of a call back that ended without an answer."""
        with self._changed:
            self._leave(1)

    def bill(
        self, role: str, input_tokens: int, output_tokens: int, cost_usd: float | None, *, places: int = 1
    ) -> None:
        """Count an answered call, whose place is free again; it is the metric's where that asks."""
        with self._changed:
            self._count(role, Spent(1, 0, input_tokens, output_tokens, cost_usd))
            self._leave(places)

    def bill_unasked(self, role: str, input_tokens: int, output_tokens: int) -> None:
        """Count a call at an unknown price that was sent without a place; raises if there would have been none."""
        with self._changed:
            sentence = self._exceeded()
            self._count(role, Spent(1, 0, input_tokens, output_tokens, None))
            if sentence and not self._refusal:
                self._refusal = BudgetSpent(sentence)
            self._refuse()

    def hit(self) -> None:
        """Count an answer from the ledger; refused like a call once anything was."""
        with self._changed:
            self._refuse()
            self._hits += 1

    def interrupt(self, reason: str) -> None:
        """Refuse everything from now on."""
        with self._changed:
            self._refusal = Interrupted(reason)

    def abandon(self) -> None:
        """Wait for nothing any more: what is in flight is given up."""
        with self._changed:
            self.abandoned = True
            self._changed.notify_all()

    @property
    def interrupted(self) -> bool:
        """Whether `interrupt` was called."""
        return isinstance(self._refusal, Interrupted)

    def check(self, *, minutes: bool = True) -> None:
        """Raise the refusal that work without LM calls, such as training, would otherwise not notice.

        Args:
            minutes: look at the clock too, and not only at what was refused already.
        """
        with self._changed:
            self._refuse()
            if minutes and self._minutes_left() < 0:
                self._refusal = BudgetSpent(self._exceeded() or "time")
                self._refuse()

    @property
    def late(self) -> str:
        """That the time is over, in a phrase; "" where it is not."""
        with self._changed:
            return self._exceeded() if self._minutes_left() < 0 else ""

    @property
    def stopping(self) -> bool:
        """Whether `check` would raise."""
        try:
            self.check()
        except Stop:
            return True
        return False

    @contextmanager
    def holding(self, held: Spent) -> Iterator[None]:
        """Keep `held` back from what runs inside, for what must still run after it.

        A thread that outlives the block is refused for good once anything in the block was: DSPy does not wait for
        the threads of an evaluation that was stopped, and they would spend what was held.
        """
        hold = _Hold()
        with self._changed:
            self._held = held
        try:
            with dspy.context(cascade_hold=hold):
                yield
        finally:
            self.drain()
            with self._changed:
                self._held = Spent()
                if isinstance(self._refusal, BudgetSpent):
                    hold.refusal, self._refusal = self._refusal, None

    def drain(self, seconds: float = 30.0) -> None:
        """Wait until nothing is in flight or it is given up, at most `seconds`."""
        with self._changed:
            self._draining += 1
            self._changed.wait_for(lambda: self._in_flight <= 0 or self.abandoned, timeout=seconds)
            self._draining -= 1

    def _total(self, seconds: float = 0.0) -> Spent:
        judged = (self._judge.lm_calls, self._judge.cost_usd)
        return Spent(self._calls, self._hits, self._input_tokens, self._output_tokens, self._cost_usd, seconds, *judged)

    def _count(self, role: str, call: Spent) -> None:
        self._calls += 1
        self._input_tokens += call.input_tokens
        self._output_tokens += call.output_tokens
        self._cost_usd = None if self._cost_usd is None or call.cost_usd is None else self._cost_usd + call.cost_usd
        self.by_role[role] += 1
        self._by_lm[role] = self._by_lm.get(role, Spent()) + call
        if dspy.settings.get(JUDGING):
            self._judge += call
        self._note(self._before + self._total(self.clock() - self._started), self._by_lm)

    def _leave(self, places: int) -> None:
        self._in_flight -= places
        if self._draining:
            self._changed.notify_all()

    def _refuse(self) -> None:
        hold = dspy.settings.get("cascade_hold")
        if refusal := self._refusal or (hold and hold.refusal):
            raise type(refusal)(str(refusal))

    def _exceeded(self) -> str:
        budget, before, held = self.budget, self._before, self._held
        calls = before.lm_calls + self._calls + self._in_flight
        if budget.lm_calls is not None and calls >= budget.lm_calls - held.lm_calls:
            return f"LM calls: {calls} of {budget.lm_calls}{_kept(held.lm_calls)}"
        tokens = before.input_tokens + before.output_tokens + self._input_tokens + self._output_tokens
        kept = held.input_tokens + held.output_tokens
        if budget.tokens is not None and tokens >= budget.tokens - kept:
            return f"tokens: {tokens} of {budget.tokens}{_kept(kept)}"
        dollars = (before.cost_usd or 0.0) + (self._cost_usd or 0.0)
        if budget.usd is not None and dollars >= budget.usd - (held.cost_usd or 0.0):
            return f"dollars: {dollars:.4f} of {budget.usd}{_kept(held.cost_usd)}"
        if self._minutes_left() < 0:
            return f"minutes: {self.budget.minutes} are over{_kept(round(held.seconds / 60, 1))}"
        return ""

    def _minutes_left(self) -> float:
        if self.budget.minutes is None:
            return 1.0
        elapsed = self._before.seconds + self.clock() - self._started
        return self.budget.minutes - (elapsed + self._held.seconds) / 60


def _kept(amount: float | None) -> str:
    return f", {amount} kept for dev and test" if amount else ""
