"""Does a learned router with a specialist behind each route read customers' messages better than one prompt for all?

The router names the department; the specialist of that department knows its three kinds of trouble and what it needs to
begin: the amount, the order number or the device. The plain program answers all of it in one call.
"""

import re
from collections import Counter
from typing import Literal

import dspy

from cascade import Budget, Dataset, Experiment, Plateau, Score, metric
from cascade.programs import Router
from cascade.recipes import small

Department = Literal["billing", "delivery", "technical"]
Urgency = Literal["low", "normal", "high"]
URGENCIES = ("low", "normal", "high")


class Route(dspy.Signature):
    """Name the department that can help the customer."""

    message: str = dspy.InputField()
    department: Department = dspy.OutputField()


class Billing(dspy.Signature):
    """Read a message about money: what is wrong, how much it hurries, and which amount it is about."""

    message: str = dspy.InputField()
    issue: Literal["refund", "overcharge", "invoice"] = dspy.OutputField()
    urgency: Urgency = dspy.OutputField()
    detail: str = dspy.OutputField(desc="the amount of money")


class Delivery(dspy.Signature):
    """Read a message about an order: what is wrong, how much it hurries, and which order it is."""

    message: str = dspy.InputField()
    issue: Literal["late", "damaged", "wrong"] = dspy.OutputField()
    urgency: Urgency = dspy.OutputField()
    detail: str = dspy.OutputField(desc="the order number")


class Technical(dspy.Signature):
    """Read a message about a device: what is wrong, how much it hurries, and which device it is."""

    message: str = dspy.InputField()
    issue: Literal["login", "crash", "offline"] = dspy.OutputField()
    urgency: Urgency = dspy.OutputField()
    detail: str = dspy.OutputField(desc="the device")


class Whole(dspy.Signature):
    """Read a customer's message: department, what is wrong, how much it hurries, and amount, order number or device."""

    message: str = dspy.InputField()
    department: Department = dspy.OutputField()
    issue: Literal["refund", "overcharge", "invoice", "late", "damaged", "wrong", "login", "crash", "offline"] = (
        dspy.OutputField()
    )
    urgency: Urgency = dspy.OutputField()
    detail: str = dspy.OutputField(desc="the amount, the order number or the device")


# The longest answer has three words and an amount or number; an untrained model writes until it is stopped.
SHORT = {"max_tokens": 48}


def Triage() -> Router:
    """Ask for the department, then the specialist of that department."""
    specialists = {"billing": Billing, "delivery": Delivery, "technical": Technical}
    return Router(
        dspy.Predict(Route, max_tokens=16),
        {department: dspy.Predict(signature, **SHORT) for department, signature in specialists.items()},
        default="technical",  # for a model that is not held to the format and names a fourth department
    )


class PlainTriage(dspy.Module):
    """The simplest program for it: one call."""

    def __init__(self) -> None:
        super().__init__()
        self.read = dspy.Predict(Whole, **SHORT)

    def forward(self, message: str) -> dspy.Prediction:
        return self.read(message=message)


@metric(threshold=0.9)
def handled(example: dspy.Example, prediction: dspy.Prediction) -> Score:
    """Department .3, issue .3, urgency .2, detail .2: half for the neighbouring urgency, word F1 for the detail.

    What the wrong department found out is of no use, so without the department nothing else counts but the urgency.
    """
    right = float(prediction.department == example.department)
    steps = abs(URGENCIES.index(example.urgency) - URGENCIES.index(prediction.urgency))
    parts = {
        "department": right,
        "issue": right * (prediction.issue == example.issue),
        "urgency": (1.0, 0.5, 0.0)[steps],
        "detail": right * _f1(example.detail, prediction.detail),
    }
    weights = {"department": 0.3, "issue": 0.3, "urgency": 0.2, "detail": 0.2}
    value = round(sum(weights[name] * part for name, part in parts.items()), 6)
    faults = [f"{name} {example[name]!r}, not {prediction[name]!r}" for name, part in parts.items() if part < 1]
    return Score(value, f"It is {'; '.join(faults)}." if faults else "All of it is right.", parts)


def _f1(wanted: str, given: str) -> float:
    ours, theirs = (Counter(re.findall(r"[\w.,-]*\w", text.lower())) for text in (wanted, given))
    return 2 * (ours & theirs).total() / ((ours + theirs).total() or 1)


experiment = Experiment(
    dataset=Dataset("triage"),
    metric=handled,
    program=Triage,
    stages=small(labels=81),
    plateau=Plateau(patience=2, min_gain=0.01, equivalence_margin=0.03, confidence=0.90, on_plateau="escalate"),
    budget=Budget(lm_calls=5_000, minutes=120),
    guardrails={"department": 0.05},
    target=0.95,
)
