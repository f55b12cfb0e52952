"""Several opinions, one answer.

Invariant: how it was settled is in the prediction, ties too: of equals, who comes first counts. Optimizers learn from
those who said what was returned.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import Any

from cascade.errors import ProgramError, StepFailed
from cascade.programs.calling import Failed
from cascade.programs.flow import Call, Discard, Flow, Steps, Together, call, keys, told, value_of
from cascade.programs.iterative import number_of
from cascade.programs.parallel import own, parted, refuse_none
from cascade.programs.ports import Port, Ports, both, either, gives_of, takes_of
from cascade.programs.rollouts import drawn
from cascade.programs.step import as_step
from cascade.programs.voting import Count, count, opinion

Members = Sequence[Any] | Mapping[str, Any]
Said = Generator[Any, Any, tuple[dict[str, Any], dict[str, str]]]


class _Ensemble(Flow):
    """Members, a list or by name, that are asked at once; a member that fails has no say."""

    shape = "branches"
    tells: Mapping[str, Port] = {}
    """What it adds to the fields of a member, before them: the last field stays the answer."""

    def __init__(self, members: Members) -> None:
        super().__init__()
        if not members:
            raise ProgramError(f"{type(self).__name__} has no members. Give at least one.")
        if isinstance(members, Mapping):
            keys(members, "Member")
            self.members: Any = {name: as_step(member) for name, member in members.items()}
        else:
            self.members = [as_step(member) for member in members]

    def asked(self) -> dict[str, Any]:
        """The members by name; in a list they are `members[0]` and so on."""
        listed = {f"members[{place}]": member for place, member in enumerate(self.members)}
        return self.members if isinstance(self.members, dict) else listed

    def named_steps(self) -> dict[str, Any]:
        """The members, then who is asked after them."""
        return {**self.asked(), **super().named_steps()}

    @property
    def takes(self) -> Ports | None:
        """What members take."""
        return both(map(takes_of, self.named_steps().values()))

    @property
    def gives(self) -> Ports | None:
        """What a member gives, and how it was settled."""
        return both([{"failed": Port(dict), **self.tells}, either(map(gives_of, self.asked().values()))])

    def _said(self, fields: Mapping[str, Any]) -> Said:
        members = self.asked()
        found = yield Together(tuple(call(name, member, fields) for name, member in members.items()))
        outcomes = dict(zip(members, found, strict=True))
        said, failed = parted(outcomes)
        refuse_none(said, outcomes)
        return said, failed


class Vote(_Ensemble):
    """The answer with most votes.

    >>> says = [Step(lambda text, said=said: said, gives="answer") for said in ("a", "b", "b")]
    >>> Vote(says)(text="?").votes
    {'a': 1.0, 'b': 2.0}

    The prediction holds the fields of the first who gave the winning answer, and `votes` (weight by answer), `tied`
    (the answers that had as many; the one of the first member among them won) and `failed`.

    Args:
        members: modules or functions, in a list or by name.
        field: what is voted on, spelling aside; by default the last field.
        weights: of each member, in their order or by their names; by default 1.
    """

    tells = {"votes": Port(dict), "tied": Port(list)}  # noqa: RUF012

    def __init__(
        self, members: Members, *, field: str = "", weights: Sequence[float] | Mapping[str, float] | None = None
    ) -> None:
        super().__init__(members)
        self.field = field
        names = list(self.asked())
        given = dict(weights) if isinstance(weights, Mapping) else dict(zip(names, weights or [1.0] * len(names)))  # noqa: B905
        if set(given) != set(names) or (weights and len(weights) != len(names)) or min(given.values()) < 0:
            raise ProgramError(f"Weights {weights!r} do not fit the members {told(names)}: one each, none below 0.")
        self.weights: dict[str, float] = given

    def steps(self, **fields: Any) -> Steps:
        """Ask all, count."""
        said, failed = yield from self._said(fields)
        counted = count(opinions(said, self.field), [self.weights[name] for name in said])
        winner = yield from settled(said, counted.winner, self.field)
        return {"failed": failed, "votes": counted.votes, "tied": counted.tied, **own(winner)}


class MostConfident(_Ensemble):
    """The answer of the member that is surest of it.

    The prediction holds its fields, and `confidences` by member, `tied` (members as sure; the first of them counts) and
    `failed`, in which a confidence that is no number is too.

    Args:
        confidence: a field of the members (`confidence: float`), or a function or module that says it of a member's
            fields and the input; who is sure of what need not be right, so judge by what held on dev.
    """

    tells = {"confidences": Port(dict), "tied": Port(list)}  # noqa: RUF012

    def __init__(self, members: Members, *, confidence: Any = "confidence") -> None:
        super().__init__(members)
        self.field = confidence if isinstance(confidence, str) else "confidence"
        self.judge = None if isinstance(confidence, str) else as_step(confidence, gives="confidence")

    @property
    def takes(self) -> Ports | None:
        """What members take, and who judges beyond what they give."""
        judged, given = takes_of(self.judge) if self.judge else {}, either(map(gives_of, self.asked().values()))
        rest = None if judged is None or given is None else {n: port for n, port in judged.items() if n not in given}
        return both([*map(takes_of, self.asked().values()), rest])

    def steps(self, **fields: Any) -> Steps:
        """Ask all, compare."""
        said, failed = yield from self._said(fields)
        judged: Mapping[str, Any] = said
        if self.judge:
            calls = tuple(call(f"judge of {name}", self.judge, {**fields, **one}) for name, one in said.items())
            judged = dict(zip(said, (yield Together(calls)), strict=True))
        sure: dict[str, float] = {}
        for name, one in judged.items():
            try:
                sure[name] = number_of(value_of(raised(one), self.field, name))
            except Exception as error:
                failed[name] = Failed(name, error).reason
        if not sure:
            raise StepFailed(f"No member says how sure it is. {'; '.join(failed.values())}")
        best = [name for name, number in sure.items() if number == max(sure.values())]
        yield Discard(tuple(one for name, one in said.items() if name != best[0]))
        tied = best if len(best) > 1 else []
        return {"failed": failed, "confidences": sure, "tied": tied, **own(said[best[0]])}


class Consensus(_Ensemble):
    """An answer only if enough members agree on it.

    The prediction holds the fields of the first who gave it, and `share` (of all members, those that failed too),
    `agreed`, `votes` and `failed`.

    Args:
        agree: share of the members that must say the same, above 0 and at most 1.
        field: what they must agree on, spelling aside; by default the last field.
        otherwise: who is asked if they do not; without it that is a `StepFailed`.
    """

    tells = {"share": Port(float), "agreed": Port(bool), "votes": Port(dict)}  # noqa: RUF012

    def __init__(self, members: Members, *, agree: float, field: str = "", otherwise: Any = None) -> None:
        super().__init__(members)
        if not 0 < agree <= 1:
            raise ProgramError(f"Consensus has agree={agree}. It is a share: above 0 and at most 1.")
        self.agree, self.field = agree, field
        self.otherwise = None if otherwise is None else as_step(otherwise)

    def steps(self, **fields: Any) -> Steps:
        """Ask all; if they do not agree, ask who settles it."""
        said, failed = yield from self._said(fields)
        counted = count(opinions(said, self.field))
        share = max(counted.votes.values()) / len(self.members)
        tells = {"failed": failed, "share": share, "agreed": share >= self.agree, "votes": counted.votes}
        if share >= self.agree:
            winner = yield from settled(said, counted.winner, self.field)
            return {**tells, **own(winner)}
        if self.otherwise is None:
            raise StepFailed(
                f"{share:.0%} of the members agree, of {self.agree:.0%}. They said: {told(counted.votes)}. "
                "Say who settles it: Consensus(…, otherwise=module)."
            )
        yield Discard(tuple(said.values()))
        return {**tells, **own((yield call("otherwise", self.otherwise, fields)))}


class AskUntilAgreed(Flow):
    """Asks one member again until enough of its answers agree: as often as a question is hard.

    Each time is a draw of its own (a rollout at `temperature`), and the same draw tomorrow. It asks at once what it
    must ask at least, so no call is made that would not have been one after the other.

    The prediction holds the fields of the first who gave the answer, and `asked`, `agreed`, `votes`, `tied` (where the
    limit was reached; the answer given first counts) and `failed`.

    Args:
        agree: answers that must be the same.
        limit: times it asks at most.
        field: what must be the same, spelling aside; by default the last field.
    """

    shape = "loop"

    def __init__(
        self, member: Any, *, agree: int = 2, limit: int = 5, field: str = "", temperature: float = 0.7
    ) -> None:
        super().__init__()
        if not 1 <= agree <= limit or temperature <= 0:
            raise ProgramError(
                f"AskUntilAgreed has agree={agree}, limit={limit}, temperature={temperature}. "
                "It takes 1 ≤ agree ≤ limit, and a temperature above 0, at which answers differ."
            )
        self.member = as_step(member)
        self.agree, self.limit, self.field, self.temperature = agree, limit, field, temperature

    @property
    def takes(self) -> Ports | None:
        """What the member takes."""
        return takes_of(self.member)

    @property
    def gives(self) -> Ports | None:
        """What the member gives, and how often it was asked."""
        tells = {
            "asked": Port(int),
            "agreed": Port(bool),
            "votes": Port(dict),
            "tied": Port(list),
            "failed": Port(dict),
        }
        return both([tells, gives_of(self.member)])

    def steps(self, **fields: Any) -> Steps:
        """Ask, count, ask again."""
        outcomes: dict[str, Any] = {}
        said: dict[str, Any] = {}
        wanted, votes = self.agree, Count({}, 0)
        while wanted and len(outcomes) < self.limit:
            calls = [
                self._draw(len(outcomes) + more, fields) for more in range(min(wanted, self.limit - len(outcomes)))
            ]
            found = yield Together(tuple(calls))
            outcomes |= {one.name: outcome for one, outcome in zip(calls, found, strict=True)}
            said, failed = parted(outcomes)
            votes = count(opinions(said, self.field)) if said else votes
            wanted = max(0, self.agree - int(max(votes.votes.values(), default=0)))
        refuse_none(said, outcomes)
        winner = yield from settled(said, votes.winner, self.field)
        tells = {"asked": len(outcomes), "agreed": not wanted, "votes": votes.votes, "tied": votes.tied}
        return {"failed": failed, **tells, **own(winner)}

    def _draw(self, place: int, fields: Mapping[str, Any]) -> Call:
        return drawn(call(f"member[{place}]", self.member, fields), place + 1, self.temperature)


def opinions(said: Mapping[str, Any], field: str) -> list[str]:
    """What counts as each one's answer."""
    return [opinion(value_of(one, field, name)) for name, one in said.items()]


def settled(said: Mapping[str, Any], winner: int, field: str) -> Generator[Any, Any, Any]:
    """The prediction at a place; those who said something else are discarded."""
    ways = list(said.values())
    kept = opinions(said, field)[winner]
    yield Discard(tuple(one for one, way in zip(ways, opinions(said, field), strict=True) if way != kept))
    return ways[winner]


def raised(outcome: Any) -> Any:
    """A prediction; a failure is raised."""
    if isinstance(outcome, Failed):
        raise outcome.error
    return outcome
