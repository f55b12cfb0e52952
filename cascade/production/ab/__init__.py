"""Champion and challenger side by side: who is answered by which, and what their outcomes say.

    assignment, evidence, advice    who is answered by which; what outcomes say; what follows: pure functions
    outcomes                        what people said and which tests there were, on the disk
    account                         what a test has shown so far

Invariant: whoever judges a test, judges it by the same functions; who serves and asks for feedback stands elsewhere.
"""

from cascade.production.ab.advice import Action, Advice, Rules, Verdict, advise
from cascade.production.ab.assignment import Arm, assign
from cascade.production.ab.evidence import Evidence, Outcome, first_of_each_key

__all__ = [
    "Action",
    "Advice",
    "Arm",
    "Evidence",
    "Outcome",
    "Rules",
    "Verdict",
    "advise",
    "assign",
    "first_of_each_key",
]
