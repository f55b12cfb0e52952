"""A step that runs when its answer is read.

Invariant: it runs at most once, with the model, the adapter and the watchers of the place where it was called, and what
its predictors said goes into the trace of that place; once that is over, into the trace that took it in.
"""

import asyncio
import contextvars
import copy
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import dspy

from cascade.errors import StepFailed
from cascade.programs.awaiting import awaited
from cascade.programs.calling import extend, prediction_of
from cascade.programs.once import Busy, Once, carrying
from cascade.programs.wrapper import Wrapper


class Lazy(Wrapper):
    """A module whose predictions are computed when one of their fields is read.

    >>> from cascade.programs import Step
    >>> step = Lazy(Step(lambda text: print("runs") or text.upper(), gives="loud"))
    >>> said = step(text="hi")
    >>> said.loud, said.loud
    runs
    ('HI', 'HI')

    Where calls are awaited, `await prediction` computes it and lets others run meanwhile; reading a field computes it
    as well, but blocks. An error is raised at every reading; an order to stop only where it is given.
    """

    def forward(self, **fields: Any) -> "LazyPrediction":
        """A prediction of which nothing is computed."""
        return LazyPrediction(self.module, fields)

    async def aforward(self, **fields: Any) -> "LazyPrediction":
        """The same; `await` what it returns."""
        return LazyPrediction(self.module, fields)


class LazyPrediction(dspy.Prediction):  # type: ignore[misc]
    """A `dspy.Prediction` that is computed when it is read, in whatever way: a field, its names, `toDict`, `==`.

    A copy, a deep copy and a pickle of it are plain predictions.
    """

    def __init__(self, module: Any, fields: dict[str, Any]) -> None:
        self._module, self._fields = module, fields
        self._context = contextvars.copy_context()
        self._once = Once()
        self._usage: Any = None

    @property
    def pending(self) -> bool:
        """Whether nothing was computed yet; asking computes nothing."""
        return not self._once.done

    def __await__(self) -> Generator[Any, None, Any]:
        """Compute it, awaited; gives the plain prediction."""
        return self._acomputed().__await__()

    @property
    def _store(self) -> Any:
        return self._computed()._store

    @property
    def _completions(self) -> Any:
        return self._computed()._completions

    @property
    def _lm_usage(self) -> Any:
        """Of the call; before it is computed, nothing was used."""
        return self._usage if self.pending else self._usage or self._computed()._lm_usage

    @_lm_usage.setter
    def _lm_usage(self, value: Any) -> None:
        self._usage = value

    def _computed(self) -> Any:
        try:
            return self._once.get(lambda: self._context.run(carrying(self._run)))
        except Busy:
            raise StepFailed(
                f"{self._name} is read by what computes it, or while it is awaited. Await it first."
            ) from None
        except AttributeError as error:  # Python would take it for a field that is not there
            raise StepFailed(f"{self._name} failed: AttributeError: {error}") from error

    async def _acomputed(self) -> Any:
        async def compute() -> Any:
            mine = carrying(lambda: None)
            # A coroutine cannot enter a context; a task is made in one.
            return await asyncio.get_running_loop().create_task(self._arun(mine), context=self._context)

        return await self._once.aget(compute)

    def _run(self) -> Any:
        with _writing():
            return prediction_of(self._module(**self._fields), self._name)

    async def _arun(self, mine: Callable[[], None]) -> Any:
        mine()
        with _writing():
            return prediction_of(await awaited(self._module, self._fields), self._name)

    @property
    def _name(self) -> str:
        return f"Lazy({type(self._module).__name__})"

    def copy(self, **fields: Any) -> Any:
        """A plain prediction with these fields beside."""
        return self._computed().copy(**fields)

    def __copy__(self) -> Any:
        return self._computed().copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self._computed(), memo)

    def __reduce__(self) -> Any:
        return _plain, (dict(self._store),)

    def __iter__(self) -> Any:
        return iter(self._computed())


@contextmanager
def computed_at_once(*programs: Any) -> Iterator[None]:
    """Inside the block, programs that are `Lazy` themselves answer with what is computed already.

    For optimizers that take the trace of a run before anything of its answer is read.
    """
    lazy = {id(one): one for one in programs if isinstance(one, Lazy)}.values()
    for one in lazy:
        setattr(one, "forward", _computing(object.__getattribute__(one, "forward")))  # noqa: B010 - a method of the class
    try:
        yield
    finally:
        for one in lazy:
            one.__dict__.pop("forward", None)


def _computing(forward: Callable[..., LazyPrediction]) -> Callable[..., LazyPrediction]:
    def run(**fields: Any) -> LazyPrediction:
        said = forward(**fields)
        said.keys()
        return said

    return run


@contextmanager
def _writing() -> Iterator[None]:
    """Put what predictors say into the trace of where the step was called, once all is said."""
    trace = dspy.settings.trace
    said: list[Any] | None = None if trace is None else []
    try:
        with dspy.context(trace=said):
            yield
    finally:
        if trace is not None:
            extend(trace, said or ())


def _plain(fields: dict[str, Any]) -> Any:
    return dspy.Prediction(**fields)
