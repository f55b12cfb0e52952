"""Champion and challenger side by side: who is answered by which, and what their outcomes say.

Invariant: everything here is a pure function; who serves, asks for feedback and keeps it stands elsewhere.
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
