"""Can a small local model keep customers' names and numbers from a model in the cloud that answers them?

As in PAPILLON (Siyan et al., 2024), a local model lists what could tell who somebody is, a model in the cloud advises
on what is left, and the local model addresses the advice to who asked. What it misses stops at a seal that lets only
words through that are known to be harmless. Quality is the score and what reached the cloud a guardrail: neither pays
for the other.
"""

import re
from collections import Counter
from typing import Any, Literal

import dspy

from cascade import Budget, Dataset, Experiment, Plateau, Score, lm_named, metric
from cascade.programs import Pipeline, Step
from cascade.recipes import small
from cascade.tools.sealed import Sealed, anonymous, leaked

Action = Literal["block", "address", "dispute", "loan", "transfer", "close"]
ADVICE = {
    "block": "the card is blocked at once and a new one is sent",
    "address": "your address or number is changed when you confirm it in the app",
    "dispute": "the payment is disputed, and you have the money back until it is settled",
    "loan": "a colleague will reckon with you what you can borrow",
    "transfer": "we look for the payment and see to the order",
    "close": "the contract is ended when you have signed the form",
}


class Hide(dspy.Signature):
    """List all words and numbers of the message that could tell who somebody is."""

    message: str = dspy.InputField()
    private: list[str] = dspy.OutputField(desc="names, addresses, numbers, to the letter")


class Advise(dspy.Signature):
    """Say what the bank does for this customer."""

    request: str = dspy.InputField()
    action: Action = dspy.OutputField()


class Address(dspy.Signature):
    """Name the customer who wrote the message."""

    message: str = dspy.InputField()
    action: Action = dspy.InputField()
    addressee: str = dspy.OutputField()


class Whole(dspy.Signature):
    """Say what the bank does for the customer who wrote this message, and name the customer."""

    message: str = dspy.InputField()
    action: Action = dspy.OutputField()
    addressee: str = dspy.OutputField()


def hidden(message: str, private: list[str]) -> str:
    """The message with [P1], [P2] in the place of what is private."""
    found = dict.fromkeys(one for one in private if len(one.strip()) > 2 and one in message)
    for number, one in enumerate(sorted(found, key=message.index), 1):
        message = message.replace(one, f"[P{number}]")
    return message


def sealed(draft: str) -> str:
    return anonymous(draft)


def reply(addressee: str, action: str) -> str:
    return f"Dear {addressee}, {ADVICE[action]}."


def Private() -> Pipeline:
    """Hide, seal, advise in the cloud, address."""
    hide, advise = dspy.Predict(Hide, max_tokens=96), dspy.Predict(Advise, max_tokens=12)
    address = dspy.Predict(Address, max_tokens=16)
    for predictor in (hide, address):
        predictor.set_lm(lm_named("local"))
    advise.set_lm(lm_named("cloud"))
    return Pipeline(
        "message -> reply",
        hide=hide,
        mask=Step(hidden, gives="draft"),
        seal=Step(sealed, gives="request"),
        advise=Sealed(advise),
        address=address,
        answer=Step(reply, gives="reply"),
    )


class PlainPrivacy(dspy.Module):
    """The simplest program for it: the cloud is told everything."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict(Whole, max_tokens=32)
        self.answer.set_lm(lm_named("cloud"))

    def forward(self, message: str) -> dspy.Prediction:
        said = self.answer(message=message)
        return dspy.Prediction(request=message, reply=reply(said.addressee, said.action), **said)


@metric
def helped(example: dspy.Example, prediction: dspy.Prediction) -> Score:
    """Action .7 and the words of the addressee .3; beside them what of the message stayed in the house.

    `private` is the share of secrets that did not reach the cloud, `unsealed` what it would be without the seal.
    """
    secrets = example.private
    parts = {
        "action": float(prediction.action == example.action),
        "addressee": _f1(example.addressee, prediction.addressee),
        "private": 1 - len(leaked(secrets, prediction.request)) / len(secrets),
        "unsealed": 1 - len(leaked(secrets, _unsealed(prediction))) / len(secrets),
    }
    told = [f"The action is {example.action!r}."] if not parts["action"] else []
    told += [f"The customer is {example.addressee!r}."] if parts["addressee"] < 1 else []
    told += [f"The cloud was told {one!r}." for one in leaked(secrets, prediction.request)]
    value = 0.7 * parts["action"] + 0.3 * parts["addressee"]
    return Score(value, " ".join(told) or "All of it is right, and nothing private left the house.", parts)


def _unsealed(prediction: Any) -> str:
    return str(prediction.get("draft", prediction.request))


def _f1(wanted: str, given: str) -> float:
    ours, theirs = (Counter(re.findall(r"\w+", text.lower())) for text in (wanted, given))
    return 2 * (ours & theirs).total() / ((ours + theirs).total() or 1)


experiment = Experiment(
    dataset=Dataset("privacy"),
    metric=helped,
    program=Private,
    stages=small(labels=72),
    plateau=Plateau(patience=2, min_gain=0.01, equivalence_margin=0.03, confidence=0.90, on_plateau="escalate"),
    budget=Budget(lm_calls=5_000, minutes=120),
    guardrails={"private": 0.0},
    target=0.95,
)
