"""One of several ways: by what a step says, by a condition, or by what the input is like.

Invariant: who decides is a step like any other, so it can be a rule or a predictor, and is optimized with the rest. The
way that was gone is in the prediction.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import dspy

from cascade.errors import ProgramError, StepFailed
from cascade.programs.flow import Flow, Steps, added, call, keys, told, value_of
from cascade.programs.ports import Port, Ports, both, chained, either, gives_of, parameters, ports_of, takes_of
from cascade.programs.step import Step, as_step, nothing

DEFAULT = "default"


class Router(Flow):
    """Asks one step which way to go, and goes it.

    >>> size = Router(lambda text: "long" if len(text) > 9 else "short",
    ...               {"long": Step(lambda: "a lot", gives="said"), "short": Step(lambda: "a bit", gives="said")})
    >>> size(text="abc").route
    'short'

    The prediction holds `route`, what the deciding step said, and the fields of the way. A router among the routes adds
    its own to `route`: `billing.refund`.

    Args:
        by: a function that returns the route, or a module, one field of which is it.
        routes: modules or functions by route.
        default: the route, or the module, for what is no route; without it that is a `StepFailed`.
        field: of `by` that is the route: by default its only `Literal`, else its last.
    """

    shape = "choice"
    says = "route"

    def __init__(self, by: Any, routes: Mapping[str, Any], default: Any = None, *, field: str = "") -> None:
        super().__init__()
        keys(routes, "Route")
        self.by = as_step(by, gives=self.says)
        self.routes = {name: as_step(part) for name, part in routes.items()}
        self.default: str | None = default
        if default is not None and not isinstance(default, str):
            self.default, self.routes[DEFAULT] = DEFAULT, as_step(default)
        self.field = field or _only_literal(gives_of(self.by)) or ("" if isinstance(by, dspy.Module) else self.says)
        self._check()

    def named_steps(self) -> dict[str, Any]:
        """`by`, then the routes."""
        return {"by": self.by, **self.routes}

    @property
    def takes(self) -> Ports | None:
        """What `by` takes, and each route beyond what `by` gives."""
        return chained([ports_of(self.by), (either(map(takes_of, self.routes.values())), {})])

    @property
    def gives(self) -> Ports | None:
        """What `by` gives, and what one of the routes does."""
        return both([gives_of(self.by), {self.says: Port(str)}, either(map(gives_of, self.routes.values()))])

    def steps(self, **fields: Any) -> Steps:
        """Ask, then go."""
        said = yield call("by", self.by, fields)
        route = self.chosen(value_of(said, self.field, "by"))
        given = yield call(route, self.routes[route], {**fields, **said, self.says: route})
        way = f"{route}.{given[self.says]}" if self.says in given else route
        return added({**said, self.says: way}, {name: value for name, value in given.items() if name != self.says})

    def chosen(self, value: Any) -> str:
        """The route for what `by` said."""
        name = str(getattr(value, "value", value)).strip()
        if name in self.routes:
            return name
        if self.default is None:
            raise StepFailed(f"There is no route {name!r}. Routes: {told(self.routes)}. Give the router a default.")
        return self.default

    def _check(self) -> None:
        if not self.routes:
            raise ProgramError("A router has no routes. Give some: Router(by, {'name': module}).")
        if "by" in self.routes:
            raise ProgramError("A route cannot be called 'by', which is the step that decides. Choose another name.")
        if self.default not in (None, *self.routes):
            raise ProgramError(f"The default {self.default!r} is no route. Routes: {told(self.routes)}.")
        for name, part in self.routes.items():
            if self.says in (gives_of(part) or ()) and not isinstance(part, Flow):
                raise ProgramError(
                    f"Route {name!r} gives {self.says!r}, where the router says its way. Rename that field."
                )
        self._check_values()

    def _check_values(self) -> None:
        """Where it is typed, what `by` may say must be routes."""
        given = gives_of(self.by)
        if given is not None and self.field and self.field not in given:
            raise ProgramError(f"The step 'by' gives no {self.field!r}. It gives: {told(given)}.")
        values = _literals(given[self.field].type) if given and self.field in given else ()
        if values and self.default is None and (lost := [value for value in values if value not in self.routes]):
            raise ProgramError(
                f"{self.field!r} may be {told(lost)}, for which there is no route. Routes: {told(self.routes)}. "
                "Add them, or give the router a default."
            )
        if values and (idle := [name for name in self.routes if name not in values and name != self.default]):
            raise ProgramError(f"{self.field!r} is never {told(idle)}. It may be: {told(values)}. Take the route out.")


class When(Router):
    """A step only under a condition.

    >>> shout = When(lambda text: text.endswith("!"), Step(lambda text: text.upper(), gives="text"))
    >>> shout(text="hi!").text
    'HI!'

    The prediction's `route` is `then` or `otherwise`.

    Args:
        condition: a function that returns a truth value, or a module, one field of which is one (`urgent: bool`).
        otherwise: by default nothing is done and no field given.
    """

    def __init__(self, condition: Any, then: Any, otherwise: Any = None, *, field: str = "") -> None:
        idle = Step(nothing, gives=()) if otherwise is None else otherwise
        super().__init__(condition, {"then": then, "otherwise": idle}, field=field)

    def chosen(self, value: Any) -> str:
        """The branch for a truth value."""
        if not isinstance(value, bool):
            raise StepFailed(f"A condition said {value!r}, which is not True or False. Declare its field as bool.")
        return "then" if value else "otherwise"

    def _check_values(self) -> None:
        given = gives_of(self.by)
        kind = given[self.field or list(given)[-1]].type if given and (not self.field or self.field in given) else bool
        if kind not in (bool, Any):
            raise ProgramError(f"The condition gives {kind!r}, which is no truth value. Declare its field as bool.")


@dataclass(frozen=True)
class Rule:
    """A structure for inputs of a kind.

    >>> deep = Rule("deep", lambda question: "why" in question.lower(), "it asks for reasons")

    Args:
        when: takes fields of the input by name.
        why: in the prediction, if this rule decided.
    """

    structure: str
    when: Callable[..., bool]
    why: str


class Adaptive(Router):
    """The structure that fits the input. It is a router, asked another question: not where an answer leads, but how
    much work an input is worth; so it is told by rules as well, and says why.

    >>> by_length = [Rule("brief", lambda text: len(text) < 9, "it is short")]
    >>> one = Adaptive(by_length, {"brief": Step(lambda text: 1, gives="n"), "full": Step(len, gives="n")}, "full")

    The prediction holds `structure` and `why`.

    Args:
        analyse: rules, of which the first that holds counts; or, as of a router, a function that returns the structure
            or a module that says it (what else that says, as its `reasoning`, is in the prediction).
        default: where no rule holds.
    """

    says = "structure"

    def __init__(self, analyse: Any, structures: Mapping[str, Any], default: Any = None, *, field: str = "") -> None:
        by = _Rules(analyse) if isinstance(analyse, Sequence) else analyse
        super().__init__(by, structures, default, field=self.says if isinstance(by, _Rules) else field)
        if isinstance(by, _Rules) and (lost := [one.structure for one in by.rules if one.structure not in self.routes]):
            raise ProgramError(f"Rules name {told(lost)}, which is no structure. Structures: {told(self.routes)}.")


class _Rules(dspy.Module):  # type: ignore[misc]
    def __init__(self, rules: Sequence[Rule]) -> None:
        super().__init__()
        self.rules = tuple(rules)

    @property
    def takes(self) -> Ports | None:
        return both(parameters(rule.when) for rule in self.rules)

    @property
    def gives(self) -> Ports | None:
        return {"why": Port(str), "structure": Port(str)}

    def forward(self, **fields: Any) -> Any:
        for rule in self.rules:
            taken = parameters(rule.when)
            if rule.when(**{name: fields[name] for name in fields if taken is None or name in taken}):
                return dspy.Prediction(why=rule.why, structure=rule.structure)
        return dspy.Prediction(why="no rule holds", structure="")


def _literals(kind: Any) -> tuple[str, ...]:
    return tuple(map(str, get_args(kind))) if get_origin(kind) is Literal else ()


def _only_literal(given: Ports | None) -> str:
    found = [name for name, port in (given or {}).items() if _literals(port.type)]
    return found[0] if len(found) == 1 else ""
