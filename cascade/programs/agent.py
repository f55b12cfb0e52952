"""Tools, chosen one after the other until enough is known.

Invariant: the tools are parts of the program. Their predictors are found, optimized, copied and saved with its own; a
tool that fails is something that the agent is told, and no end.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import dspy
from dspy.signatures.signature import ensure_signature
from dspy.utils.exceptions import AdapterParseError, ContextWindowExceededError
from pydantic import TypeAdapter, ValidationError

from cascade.errors import ProgramError, StepFailed
from cascade.programs.calling import Call, Failed
from cascade.programs.flow import Flow, Steps, call, told
from cascade.programs.ports import Port, Ports, gives_of, takes_of
from cascade.programs.step import Step, as_step

FINISH = "finish"
NOTHING_YET = "nothing yet"
_ARGUMENT = 120
"""Characters of an argument that is text."""
_LONGEST = 1_500
"""Characters that are kept of what a tool said."""


@dataclass(frozen=True)
class Turn:
    """One use of a tool.

    Args:
        arguments: by name; for tools that take one text, under the name of that.
        observation: what the tool said, or why it failed.
    """

    thought: str
    tool: str
    arguments: Mapping[str, Any]
    observation: str
    failed: bool = False

    def __str__(self) -> str:
        said = "; ".join(str(value) for value in self.arguments.values())
        thought = [f"Thought: {self.thought}"] if self.thought else []
        return "\n".join([*thought, f"{self.tool}({said}): {self.observation}"])


class Agent(Flow):
    """ReAct (Yao et al., 2023): thinks, uses a tool, reads what it says, and again; then answers.

    >>> agent = Agent("question -> answer", {"length": lambda text: len(text)})
    >>> list(dict(agent.named_predictors()))
    ['choose', 'answer']

    `dspy.ReAct` keeps tools in closures, where no optimizer finds the predictors of a module, and a copy of the agent
    uses the tools of the original. Here a tool is a step, under its name.

    The prediction holds the fields of the signature, the `turns` (a list of tables with `thought`, `tool`, `arguments`,
    `observation`, `failed`) and why it `stopped`: `finish`, `limit`, or `unreadable` if a choice could not be
    parsed. In each of these cases it answers by what it knows.

    Args:
        signature: fields in and out, as of a predictor.
        tools: functions or modules by name. Their docstrings tell the model what they are for. Where no tool takes more
            than one field, the model writes that as text (`argument`), else a JSON object (`arguments`).
        limit: turns at most.
        timeout: seconds after which a tool counts as failed.
        thinks: whether it writes a thought before it chooses. A model that thinks badly is faster without.
    """

    shape = "loop"

    def __init__(
        self,
        signature: Any,
        tools: Mapping[str, Any],
        *,
        limit: int = 6,
        timeout: float | None = None,
        thinks: bool = True,
    ) -> None:
        super().__init__()
        wanted = ensure_signature(signature)
        _refuse(wanted, tools, limit)
        self.limit, self.timeout = limit, timeout
        self.tools = {name: as_step(tool, gives="observation") for name, tool in tools.items()}
        self.one_text = all(_takes_one(tool) for tool in self.tools.values())
        self.choose = dspy.Predict(_choosing(wanted, self.tools, self.one_text, thinks))
        self.answer = dspy.Predict(wanted.append("findings", dspy.InputField(desc="what the tools said"), type_=str))

    def named_steps(self) -> dict[str, Any]:
        """`choose`, the tools, `answer`."""
        return {"choose": self.choose, **self.tools, "answer": self.answer}

    @property
    def takes(self) -> Ports | None:
        """The signature's inputs."""
        return {name: port for name, port in (takes_of(self.answer) or {}).items() if name != "findings"}

    @property
    def gives(self) -> Ports | None:
        """The signature's outputs, and how it went."""
        return {"turns": Port(list), "stopped": Port(str), **(gives_of(self.answer) or {})}

    def steps(self, **fields: Any) -> Steps:
        """Choose and use, until it stops; then answer."""
        turns: list[Turn] = []
        stopped = "limit"
        while len(turns) < self.limit:
            try:
                said = yield from _fitting("choose", self.choose, fields, turns)
            except AdapterParseError:
                stopped = "unreadable"
                break
            if said.tool == FINISH:
                stopped = FINISH
                break
            turns.append((yield from self._turn(said)))
        answer = yield from _fitting("answer", self.answer, fields, turns)
        return {"turns": [asdict(turn) for turn in turns], "stopped": stopped, **answer}

    def _turn(self, said: Any) -> Any:
        """Use a tool; whatever goes wrong is what it said."""
        tool, raw, thought = (
            self.tools[said.tool],
            said.get("arguments", said.get("argument", "")),
            said.get("thought", ""),
        )
        given: Mapping[str, Any] = raw if isinstance(raw, Mapping) else {"argument": raw}
        try:
            given = _fields(said.tool, raw, takes_of(tool))
            outcome = yield Call(said.tool, tool, given, self.timeout)
            return Turn(str(thought), said.tool, dict(given), _cut(_observation(outcome)))
        except Exception as error:
            return Turn(str(thought), said.tool, dict(given), _cut(f"failed: {Failed(said.tool, error).reason}"), True)


def _fitting(name: str, predictor: Any, fields: Mapping[str, Any], turns: list[Turn]) -> Any:
    """Ask with as many of the last turns as the model can read."""
    for first in range(len(turns) + 1):
        told_so_far = "\n".join(map(str, turns[first:])) or NOTHING_YET
        try:
            return (yield call(name, predictor, {**fields, "trajectory": told_so_far, "findings": told_so_far}))
        except ContextWindowExceededError:
            if first == len(turns):
                raise
    return None


def _choosing(signature: Any, tools: Mapping[str, Any], one_text: bool, thinks: bool) -> Any:
    """The signature of a choice. What tools are for stands with the field, where no optimizer writes."""
    outputs = told(signature.output_fields).replace("'", "`")
    lines = [f"{name}({', '.join(takes_of(tool) or ())}): {_purpose(tool)}" for name, tool in tools.items()]
    finish = f"{FINISH}(result): enough is known to give {outputs}"
    instructions = f"{signature.instructions}\nChoose the next tool to use, until enough is known to give {outputs}."
    made = dspy.Signature(dict(signature.input_fields), instructions)
    made = made.append("trajectory", dspy.InputField(desc="tools used so far, and what they said"), type_=str)
    if thinks:
        made = made.append("thought", dspy.OutputField(desc="what is known, and what is missing"), type_=str)
    desc = "; ".join([*lines, finish])
    made = made.append("tool", dspy.OutputField(desc=desc), type_=Literal[(*tools, FINISH)])
    if one_text:
        return made.append("argument", _short_text("what the tool is given"), type_=str)
    return made.append("arguments", dspy.OutputField(desc="what the tool is given, by name"), type_=dict[str, Any])


def _short_text(desc: str) -> Any:
    """A field of one line; small models, which answer under a grammar, are held to it."""
    return dspy.OutputField(desc=desc, max_length=_ARGUMENT)


def _fields(name: str, raw: Any, takes: Ports | None) -> dict[str, Any]:
    """Arguments by name, in the types that the tool declares; raises `StepFailed` on what it does not take."""
    if not isinstance(raw, Mapping):
        raw = {next(iter(takes)): raw} if takes else {}
    if takes is None:
        return dict(raw)
    if unknown := [field for field in raw if field not in takes]:
        raise StepFailed(f"Tool {name!r} takes {told(takes)} and not {told(unknown)}.")
    if missing := [field for field, port in takes.items() if port.sure and field not in raw]:
        raise StepFailed(f"Tool {name!r} needs {told(missing)}.")
    try:
        return {field: TypeAdapter(takes[field].type).validate_python(value) for field, value in raw.items()}
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise StepFailed(f"Tool {name!r} cannot take {_cut(repr(first['input']), 80)}: {first['msg']}.") from None


def _observation(outcome: Any) -> str:
    said = dict(outcome)
    return str(next(iter(said.values()))) if len(said) == 1 else "; ".join(f"{key}: {said[key]}" for key in said)


def _cut(text: str, longest: int = _LONGEST) -> str:
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text) - longest:,} more characters)"


def _takes_one(tool: Any) -> bool:
    takes = takes_of(tool)
    return takes is not None and len(takes) <= 1


def _purpose(tool: Any) -> str:
    """The first paragraph of a docstring, in a line."""
    if isinstance(tool, Step):
        text = getattr(tool.function, "__doc__", "") or ""
    else:
        text = getattr(getattr(tool, "signature", None), "instructions", "") or type(tool).__doc__ or ""
    return " ".join(text.strip().split("\n\n")[0].split()) or "no description"


def _refuse(signature: Any, tools: Mapping[str, Any], limit: int) -> None:
    if not tools or FINISH in tools:
        raise ProgramError(f"An agent has the tools {told(tools)}. Give at least one; {FINISH!r} is its own.")
    for name in tools:
        if not isinstance(name, str) or not name.isidentifier() or name in ("choose", "answer"):
            raise ProgramError(f"A tool is called {name!r}. Give a name of letters, other than 'choose' and 'answer'.")
    own = ("trajectory", "findings", "thought", "tool", "argument", "arguments", "turns", "stopped")
    if taken := [name for name in own if name in signature.fields]:
        raise ProgramError(f"The signature of an agent has {told(taken)}, which is the agent's own. Rename it.")
    if limit < 1:
        raise ProgramError(f"An agent has limit={limit}. It is at least 1.")
