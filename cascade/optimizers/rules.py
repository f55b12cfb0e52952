"""`dspy.InferRules` that returns the rules which scored best.

DSPy 3.4.1 writes rules into the signature that all candidates, the student and the class in the user's file share, so
that what comes back holds the rules that were tried last.
"""

from typing import Any

import dspy


class InferRules(dspy.InferRules):  # type: ignore[misc]
    """Gives each candidate a signature of its own; stands in for its base in every stage."""

    def update_program_instructions(self, predictor: Any, natural_language_rules: str) -> None:
        """Add rules to the instructions of one predictor."""
        signature = predictor.signature
        predictor.signature = signature.with_instructions(signature.instructions)
        super().update_program_instructions(predictor, natural_language_rules)
