"""A step whose answers are kept.

Invariant: a kept answer is given only where the step would be asked the same: same inputs, same instructions and demos,
same model. What its predictors said is given with it, so that whoever reads `dspy.settings.trace` sees the calls.
"""

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dspy

from cascade.programs.awaiting import awaited
from cascade.programs.cache import Cache, CacheStats, Limits
from cascade.programs.calling import extend
from cascade.programs.keys import Unkeyed, call_key, parameters
from cascade.programs.once import Busy, Once
from cascade.programs.wrapper import Wrapper


@dataclass
class _Answer:
    """What a step said, and what its predictors said on the way.

    Args:
        said: entries of a trace; instead of a predictor its path in the step, or its place among `strangers`.
        strangers: predictors that are none of the step's attributes.
        apart: nobody else holds the objects.
    """

    prediction: Any
    said: list[tuple[str | int, dict[str, Any], Any]]
    strangers: list[Any]
    apart: bool = False


@dataclass
class _Call:
    """A call that was not answered from the cache."""

    key: Any = None
    flight: Once | None = None
    answer: _Answer | None = None
    mine: bool = False
    trace: list[Any] = field(default_factory=list)


class Cached(Wrapper):
    """A module that remembers what it answered.

    >>> from cascade.programs import Step
    >>> step = Cached(Step(lambda text: len(text), gives="letters"), size=100)
    >>> step(text="abc").letters, step(text="abc").letters, step.stats.hits
    (3, 3, 1)

    Equal inputs that are asked at the same time are computed once, and everybody gets the answer, or the error: errors
    are not kept. Inputs are compared by value; a call with inputs that cannot be (a function, a connection) is
    computed each time. What is more than its inputs and its predictors, such as a search over data that change, needs
    an `age`.

    Args:
        module: what answers.
        size: answers kept; those that were not asked for longest go first.
        age: seconds after which an answer is computed anew.
        size_bytes: of the texts in all answers.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        module: Any,
        *,
        size: int = 1000,
        age: float | None = None,
        size_bytes: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(module)
        self.cache = Cache(Limits(size, age, size_bytes, clock))

    @property
    def stats(self) -> CacheStats:
        """Hits, misses and the rest since this step, or the copy that it is, was made."""
        return self.cache.stats

    def clear(self) -> None:
        """Forget all answers."""
        self.cache.clear()

    def forward(self, **fields: Any) -> Any:
        """The kept answer, or one that is computed and kept."""
        with self._asking(fields) as call:
            flight = call.flight
            if flight is None:
                return self._given(call.answer) if call.answer else self.module(**fields)

            def compute() -> _Answer:
                with self._recording(call, flight):
                    call.answer = self._answer(self.module(**fields), call.trace)
                return call.answer

            try:
                return self._given(flight.get(compute))
            except Busy:
                call.mine = True
                return self.module(**fields)

    async def aforward(self, **fields: Any) -> Any:
        """The same, awaited."""
        with self._asking(fields) as call:
            flight = call.flight
            if flight is None:
                return self._given(call.answer) if call.answer else await awaited(self.module, fields)

            async def compute() -> _Answer:
                with self._recording(call, flight):
                    call.answer = self._answer(await awaited(self.module, fields), call.trace)
                return call.answer

            try:
                return self._given(await flight.aget(compute))
            except Busy:
                call.mine = True
                return await awaited(self.module, fields)

    @contextmanager
    def _asking(self, fields: Mapping[str, Any]) -> Iterator[_Call]:
        """A call with what is known of it; afterwards it is counted, and what it computed is kept."""
        try:
            key = call_key(self.module, fields)
        except Unkeyed:
            self.cache.count("unkeyed")
            yield _Call()
            return
        answer, flight = self.cache.look(key)
        call = _Call(key, flight, answer)
        try:
            yield call
        finally:
            if flight is not None:
                self.cache.count("misses" if call.mine else "waited")

    @contextmanager
    def _recording(self, call: _Call, flight: Once) -> Iterator[None]:
        """Let the step write into a trace of its own; what it wrote before it failed goes to the caller's."""
        call.mine = True
        try:
            with dspy.context(trace=call.trace):
                yield
        except Exception:
            _say(call.trace)
            self.cache.land(call.key, flight)
            raise
        except BaseException:
            _say(call.trace)  # the flight stays: who waits for it computes
            raise
        self.cache.land(call.key, flight, call.answer if call.answer and call.answer.apart else None)

    def _answer(self, prediction: Any, trace: list[Any]) -> _Answer:
        paths = {id(predictor): path for path, predictor in parameters(self.module)}
        strangers = [predictor for predictor, _, _ in trace if id(predictor) not in paths]
        places: dict[int, str | int] = {id(one): place for place, one in enumerate(strangers)} | paths
        said = [(places[id(predictor)], inputs, output) for predictor, inputs, output in trace]
        return _apart(_Answer(prediction, said, strangers))

    def _given(self, answer: _Answer) -> Any:
        """The prediction for one more caller, whose trace gets what the predictors said."""
        fresh = _apart(answer)
        named = dict(parameters(self.module))
        _say(
            [(answer.strangers[who] if isinstance(who, int) else named[who], inputs, output)
             for who, inputs, output in fresh.said]
        )  # fmt: skip
        return fresh.prediction


def _say(said: Iterable[Any]) -> None:
    """To the caller's trace, where there is one."""
    if dspy.settings.trace is not None:
        extend(dspy.settings.trace, said)


def _apart(answer: _Answer) -> _Answer:
    """The same in objects of its own, where they can be copied."""
    try:
        prediction, said = copy.deepcopy((answer.prediction, answer.said))
    except Exception:
        return _Answer(answer.prediction, answer.said, answer.strangers)
    return _Answer(prediction, said, answer.strangers, apart=True)
