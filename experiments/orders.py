"""Can a 135M model pick out what a customer writes about?

The words stand in the message, so nothing has to be known, only found and copied. Prompts are expected to teach it the
form of an answer and little else; trained weights are expected to teach it which of the things in a message is meant.
"""

import re
from collections import Counter

import dspy

from cascade import Budget, Dataset, Experiment, Plateau, Score, Stage, metric
from cascade.optimizers import BootstrapFinetune


class FindItem(dspy.Signature):
    """Copy from the customer's message the words that name the article it is about."""

    message: str = dspy.InputField()
    item: str = dspy.OutputField()


class FindOrderedItem(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        # The longest item has 7 tokens; an untrained model writes until it is stopped.
        self.find = dspy.Predict(FindItem, max_tokens=24)

    def forward(self, message: str) -> dspy.Prediction:
        return self.find(message=message)


@metric
def item_f1(example: dspy.Example, prediction: dspy.Prediction) -> Score:
    wanted, given = _words(example.item), _words(prediction.item)
    value = 2 * (wanted & given).total() / (wanted.total() + given.total())
    faults = [
        f"{fault}: {' '.join(words.elements())}"
        for fault, words in (("missing", wanted - given), ("too much", given - wanted))
        if words
    ]
    told = f"The item is {example.item!r}; {', '.join(faults)}." if faults else "These are the words of the item."
    return Score(value, told)


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.lower().replace("'", "")))


# A 135M model writes no better instructions for reading its own source and summaries of its data, only slower ones.
PLAIN_PROPOSALS = {"program_aware_proposer": False, "data_aware_proposer": False, "fewshot_aware_proposer": False}
FEW_DEMOS = {"max_bootstrapped_demos": 2, "max_labeled_demos": 4}

experiment = Experiment(
    dataset=Dataset("orders"),
    metric=item_f1,
    program=FindOrderedItem,
    stages=[
        Stage("instructions", dspy.MIPROv2, auto="light", **FEW_DEMOS, **PLAIN_PROPOSALS),
        Stage("demos", dspy.BootstrapFewShot, max_bootstrapped_demos=4, max_labeled_demos=8),
        Stage("search", dspy.BootstrapFewShotWithRandomSearch, num_candidate_programs=4, **FEW_DEMOS),
        Stage("weights", BootstrapFinetune, max_labeled_rows=100, exclude_demos=True, train_kwargs={"epochs": 3}),
        Stage("again", BootstrapFinetune, max_labeled_rows=100, exclude_demos=True, train_kwargs={"epochs": 1}),
    ],
    # One prompt stage without `better` is enough to leave prompts: what they can teach here, the first one teaches.
    plateau=Plateau(patience=1, min_gain=0.01, equivalence_margin=0.03, confidence=0.90, on_plateau="escalate"),
    budget=Budget(lm_calls=5_000, minutes=60),
    target=0.70,
)
