"""What the steps of one run share: the journal, the meter, who watches, and who else must not run now.

Invariant: what is spent is booked on a stage in the journal, also when the stage is stopped in the middle.
"""

import fcntl
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dspy

from cascade.bounds import Bound, most_calls, of_judging, of_stage
from cascade.building import Workshop
from cascade.check import Prepared
from cascade.dataset import Split
from cascade.errors import CascadeError
from cascade.evaluation import Evaluation, evaluate
from cascade.experiment import NO_LEVER, Stage
from cascade.journal import Journal, RunRecord, Tracker, journals, unfinished, written
from cascade.lm.gateway import Gateway
from cascade.lm.ledger import Keeping, Ledger
from cascade.lm.meter import Meter
from cascade.lm.named import LMS
from cascade.outcome import Outcome
from cascade.progress import Progress
from cascade.publishing import Publisher
from cascade.reserve import Rate, rate, shortage
from cascade.result import StageResult
from cascade.settings import Settings
from cascade.spending import Spent, in_json
from cascade.tally import Tally
from cascade.warm import brought

_MANY = 1_000_000
STOPPING = "Stopping: what is in flight is waited for and saved. Ctrl-C again stops at once."


def _ignored(_outcome: Outcome) -> None:
    """Nobody asked."""


@dataclass
class Session:
    """One run under way.

    Args:
        per_example: what judging one example takes at most, in all that was judged so far.
        calls_a_run: LM calls that one example took at most, in all that was judged so far.
        bounds: LM calls at most, by stage that began.
        results: stages that ended, in order.
    """

    prepared: Prepared
    journal: Journal
    gateway: Gateway
    publisher: Publisher
    progress: Progress
    tally: Tally
    spent_by_stage: dict[str, Spent] = field(default_factory=dict)
    results: list[StageResult] = field(default_factory=list)
    per_example: Rate = field(default_factory=Rate)
    calls_a_run: int = 0
    bounds: dict[str, Bound] = field(default_factory=dict)

    @property
    def meter(self) -> Meter:
        """The gateway's."""
        return self.gateway.meter

    @contextmanager
    def accounted(self, name: str) -> Iterator[None]:
        """Book what is spent inside on the stage `name`, and see that the gateway is still where calls pass it."""
        before, earlier, self.tally.stage = self.meter.spent, self.spent_by_stage.get(name, Spent()), name
        try:
            yield
        finally:
            self.meter.drain()
            self.gateway.keep_seat()
            self.spent_by_stage[name] = earlier + (self.meter.spent - before)
            self.journal.update(
                spent=self.meter.spent.to_json(),
                spent_by_stage=in_json(self.spent_by_stage),
                spent_by_lm=in_json(self.meter.spent_by_lm),
            )

    def evaluate(
        self, program: Any, split: Split, name: str, doing: str = "", on_outcome: Callable[[Outcome], None] = _ignored
    ) -> Evaluation:
        """Evaluate a program, ticking an example at a time."""
        experiment, lms, started = self.prepared.experiment, self.prepared.lms, self.meter.clock()
        self.progress.step(name, doing or split.name, len(split) * experiment.repeats)

        def tick(outcome: Outcome) -> None:
            self.progress.tick(f"{outcome.id}: {outcome.error}" if outcome.error else "")
            on_outcome(outcome)

        done = evaluate(
            program, split, experiment.metric, threads=lms.threads, repeats=experiment.repeats, on_outcome=tick
        )
        if broken := next((outcome for outcome in done.outcomes if outcome.error), None):
            count = f"{done.failures} of {len(split)} examples of {split.name!r} failed and score 0"
            self.progress.tell(f"{name}: {count}. The first, {broken.id!r}: {broken.error[:200]}")
        if done.cut:
            count = f"{done.cut} answer{'s were' if done.cut > 1 else ' was'} cut off at max_tokens on {split.name!r}"
            self.progress.tell(f"{name}: {count}. Raise it in the program or in settings, or ask for less.")
        self.calls_a_run = max(self.calls_a_run, most_calls(done, self.prepared.program))
        took = (self.meter.clock() - started) / experiment.repeats
        self.per_example = self.per_example.most(rate(done, took, lms.threads))
        return done

    def announce(self, name: str, stage: Stage) -> None:
        """Tell how many LM calls a stage may make, judging included."""
        dev = of_judging(self.prepared, self.prepared.data.dev, calls_a_run=self.calls_a_run)
        self.bounds[name] = of_stage(stage, self.prepared, self.calls_a_run) + dev
        begins = brought(self.prepared.experiment) if stage.lever == NO_LEVER else None
        self.progress.stage_begins(name, begins.origin if begins else stage.optimizer.__name__, self.bounds[name])

    def judging(self, *splits: Split, spare: float = 2.0) -> Spent:
        """What evaluating once on each of `splits` will take, with something to spare."""
        return self.per_example.times(self.prepared.experiment.repeats * sum(map(len, splits)), spare)

    def shortage(self, *stages: str) -> str:
        """Why what `stages` left of the budget does not pay for judging on test, or "".

        Later stages do not count: a run that goes on has paid for them before.
        """
        test, before = self.prepared.data.test, (*(result.name for result in self.results), "headroom", *stages)
        spent = sum((self.spent_by_stage.get(name, Spent()) for name in dict.fromkeys(before)), Spent())
        return shortage(self.prepared.experiment.budget, spent, self.judging(test, test, spare=1.0))

    def workshop(self, name: str) -> Workshop:
        """What the stage `name` works with; its optimizer prints into the journal."""
        prepared, experiment = self.prepared, self.prepared.experiment
        return Workshop(
            factory=experiment.program,
            metric=experiment.metric,
            train=prepared.data.train,
            lms=prepared.lms,
            seed=prepared.settings.seed,
            log=self.journal.folder / name / "optimizer.log",
            earlier=self._earlier(),
        )

    def _earlier(self) -> list[Any]:
        """Different programs, best on dev first."""
        judged = [result for result in self.results if result.taken is not None and result.dev is not None]
        judged.sort(key=lambda result: -result.dev.mean if result.dev else 0.0)
        return list({result.taken.digest: result.program for result in judged if result.taken}.values())

    @contextmanager
    def configured(self) -> Iterator[None]:
        """DSPy's settings for the run; the user's own come back afterwards."""
        lms = self.prepared.lms
        lms.watch(self.meter, lambda step, steps, loss: self.progress.tick(f"training {step}/{steps}, loss {loss:.2f}"))
        context: dict[str, Any] = {"lm": lms["task"], "adapter": lms.adapter, "num_threads": lms.threads, LMS: lms}
        with dspy.context(**context, max_errors=_MANY, disable_history=True):
            yield


def open_ledger(settings: Settings, began: float, progress: Progress) -> Ledger:
    """The ledger of a run that began then; used as a context, which raises `LedgerError` on entering."""
    limit = settings.ledger_gb * 1e9
    return Ledger(
        settings.ledger,
        Keeping(
            limit=int(limit) if limit < math.inf else None,
            began=began,
            unfinished=lambda: unfinished(settings.home),
            warn=progress.warn,
        ),
    )


def begin(
    prepared: Prepared, journal: Journal, ledger: Ledger, tracker: Tracker | None, progress: Progress, fresh: bool
) -> Session:
    """Note in the journal that the run begins or goes on, and put together what it needs."""
    home = prepared.settings.home
    record = journal.update(
        status="running", pid=os.getpid(), ended=None, params=prepared.params(), fresh=fresh or journal.run.fresh
    )
    tally = Tally(journal.folder / "spent.json")
    spent, by_stage, by_lm = _all_spent(record, tally)
    meter = Meter(prepared.experiment.budget, before=spent, by_lm=by_lm, clock=prepared.clock, note=tally.note)
    salt = f"fresh {record.id}" if record.fresh else ""
    gateway = Gateway(ledger, meter, prepared.lms.identity, salt=salt, warn=progress.warn, rates=prepared.lms)
    behind = [other for other in journals(home, prepared.name, progress.warn) if other.folder != journal.folder]
    publisher = Publisher(tracker, journal, progress.warn, behind=behind)
    return Session(prepared, journal, gateway, publisher, progress, tally, by_stage)


def _all_spent(record: RunRecord, tally: Tally) -> tuple[Spent, dict[str, Spent], dict[str, Spent]]:
    """What earlier attempts have spent, in all, by stage and by LM, with what one that was killed did not book."""
    booked = Spent.from_json(record.spent) if record.spent else Spent()
    by_stage, by_lm = (
        {name: Spent.from_json(spent) for name, spent in values.items()}
        for values in (record.spent_by_stage, record.spent_by_lm)
    )
    stage, spent, last_by_lm = tally.left()
    if not stage or spent.lm_calls <= booked.lm_calls:
        return booked, by_stage, by_lm
    return spent, {**by_stage, stage: by_stage.get(stage, Spent()) + (spent - booked)}, last_by_lm or by_lm


@contextmanager
def alone(path: Path, what: str) -> Iterator[None]:
    """Hold a lock; the kernel frees it when the process dies.

    Args:
        what: runs alone, such as `Experiment 'qa'`.

    Raises:
        CascadeError: another process holds it, or it cannot be made.
    """
    with written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with path.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CascadeError(f"{what} is running already. Wait for it, or end it.") from None
        yield


@contextmanager
def interruptible(meter: Meter, tell: Callable[[str], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM: once, finish what is in flight and save, and `tell` so; twice, stop at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: Any) -> None:
        if meter.interrupted:
            meter.abandon()
            raise KeyboardInterrupt
        meter.interrupt("interrupted; run again to go on")
        # Not here: the main thread may be in the middle of printing.
        threading.Thread(target=tell, args=(STOPPING,), daemon=True).start()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
