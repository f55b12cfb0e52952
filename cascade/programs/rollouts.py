"""The same question asked again, as a draw of its own.

Invariant: what it says in a trace, the member itself said: copies are needed to ask under another LM, and no optimizer
is to see them.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import dspy

from cascade.programs.awaiting import awaited
from cascade.programs.calling import Call

APART = 1000
"""Draws of a draw are numbered from here, so that no two of them are the same call."""


def drawn(call: Call, number: int, temperature: float) -> Call:
    """A call that is answered anew: rollout `number` at `temperature`, for every LM that its predictors ask.

    The same number is the same draw, now and from the ledger tomorrow.
    """
    return replace(call, module=_Draw(call.module, number, temperature))


class _Draw:
    """What it is called with is the member's; no module of its own, so nothing that runs shows it."""

    def __init__(self, member: Any, number: int, temperature: float) -> None:
        self.member, self.number, self.temperature = member, number, temperature

    def __call__(self, **fields: Any) -> Any:
        with self._asking() as member:
            return member(**fields)

    async def acall(self, **fields: Any) -> Any:
        with self._asking() as member:
            return await awaited(member, fields)

    aforward = acall

    @contextmanager
    def _asking(self) -> Generator[Any, None, None]:
        before = dspy.settings.lm
        member, originals = self._member()
        try:
            with dspy.context(lm=self._lm(before) if before else None):
                yield member
        finally:
            trace = dspy.settings.trace
            if trace and originals:
                trace[:] = [(originals.get(id(who), who), *rest) for who, *rest in trace]

    def _member(self) -> tuple[Any, dict[int, Any]]:
        """The member, or a copy where predictors have LMs of their own, and whose copies its predictors are."""
        if not any(predictor.lm for predictor in self.member.predictors()):
            return self.member, {}
        twin = self.member.deepcopy()
        pairs = list(zip(twin.predictors(), self.member.predictors(), strict=True))
        for ours, theirs in pairs:
            ours.lm = self._lm(theirs.lm) if theirs.lm else None
        return twin, {id(ours): theirs for ours, theirs in pairs}

    def _lm(self, lm: Any) -> Any:
        earlier = lm.kwargs.get("rollout_id") or 0
        return lm.copy(rollout_id=earlier * APART + self.number, temperature=self.temperature)
