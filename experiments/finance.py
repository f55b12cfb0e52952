"""Can a 135M model be an agent, which chooses its tools, or only a step of a pipeline, where code chooses?

Both have the same tools over constructed companies, and two of the tools are small programs with a predictor of their
own, which is optimized with the rest. `Plain` reads the question once and goes a fixed way.
"""

import re
from typing import Literal

import dspy

from cascade import Budget, Dataset, Experiment, Plateau, Score, Stage, metric
from cascade.errors import StepFailed
from cascade.optimizers import BootstrapFinetune, NearestDemos
from cascade.programs import Agent
from cascade.tools.calculator import calculate
from cascade.tools.market import Market, snapshots

Tone = Literal["good", "bad", "mixed"]
Advice = Literal["buy", "hold", "sell"]


class ReadHeadlines(dspy.Signature):
    """Say how the headlines sound for those who own shares of the company."""

    headlines: str = dspy.InputField()
    tone: Tone = dspy.OutputField()


class FollowRule(dspy.Signature):
    """Sell if the news is bad or the ratio above 30. Else buy if the ratio is below 15. Else hold."""

    ratio: float = dspy.InputField(desc="price to earnings")
    tone: Tone = dspy.InputField(desc="of the news")
    advice: Advice = dspy.OutputField()


class News(dspy.Module):
    """Tells whether the news about a company is good, bad or mixed."""

    def __init__(self, market: Market) -> None:
        super().__init__()
        self.market = market
        self.read = dspy.Predict(ReadHeadlines)

    def forward(self, company: str) -> dspy.Prediction:
        return self.read(headlines=" / ".join(self.market.news(company)))


class Advise(dspy.Module):
    """Tells what the house rule says of a company: buy, hold or sell."""

    def __init__(self, market: Market, news: News) -> None:
        super().__init__()
        self.market = market
        self.news = news
        self.rule = dspy.Predict(FollowRule)

    def forward(self, company: str) -> dspy.Prediction:
        quote = self.market.quote(company)
        ratio = calculate(f"round({quote.price} / {quote.earnings}, 1)")
        return self.rule(ratio=ratio, tone=self.news(company=company).tone)


class AskMarket(dspy.Signature):
    """Answer a question about a company by what the tools say: a number, or one word."""

    question: str = dspy.InputField()
    answer: str = dspy.OutputField(max_length=40)


class FinanceAgent(dspy.Module):
    def __init__(self, market: Market | None = None) -> None:
        super().__init__()
        market = market or snapshots("finance")

        def quote(company: str) -> str:
            """Gives price, previous close and earnings per share of a company."""
            return str(market.quote(company))

        def compute(expression: str) -> float:
            """Computes an expression such as (41.2 - 40) / 40 * 100."""
            return calculate(expression)

        news = News(market)
        tools = {"quote": quote, "compute": compute, "news": news, "advise": Advise(market, news)}
        self.agent = Agent(AskMarket, tools, limit=3, timeout=30, thinks=False)

    def forward(self, question: str) -> dspy.Prediction:
        return self.agent(question=question)


class ReadQuestion(dspy.Signature):
    """Say which company the question is about, and what is wanted of it."""

    question: str = dspy.InputField()
    company: str = dspy.OutputField(desc="name or symbol, as in the question", max_length=40)
    wanted: Literal["price", "change", "valuation", "tone", "advice"] = dspy.OutputField()


class Plain(dspy.Module):
    """The same tools in a fixed order: the model reads, code decides."""

    def __init__(self, market: Market | None = None) -> None:
        super().__init__()
        self.market = market or snapshots("finance")
        self.read = dspy.Predict(ReadQuestion)
        self.news = News(self.market)
        self.advise = Advise(self.market, self.news)

    def forward(self, question: str) -> dspy.Prediction:
        asked = self.read(question=question)
        try:
            answer, failed = self._answer(asked), ""
        except StepFailed as error:  # as a tool's failure is to the agent
            answer, failed = "unknown", str(error)
        return dspy.Prediction(company=asked.company, wanted=asked.wanted, failed=failed, answer=answer)

    def _answer(self, asked: dspy.Prediction) -> str:
        if asked.wanted == "tone":
            return self.news(company=asked.company).tone
        if asked.wanted == "advice":
            return self.advise(company=asked.company).advice
        quote = self.market.quote(asked.company)
        if asked.wanted == "price":
            return f"{quote.price:.2f}"
        if asked.wanted == "change":
            return str(calculate(f"round(({quote.price} - {quote.previous_close}) / {quote.previous_close} * 100, 1)"))
        return str(calculate(f"round({quote.price} / {quote.earnings}, 1)"))


def same(said: str, expected: str) -> bool:
    """Equal words, or numbers that differ by no more than rounding to one place does."""
    try:
        return abs(float(re.sub(r"[$%,\s]", "", said)) - float(expected)) <= 0.051
    except ValueError:
        return said.strip(" .").lower() == expected


def grounded(prediction: dspy.Prediction) -> bool:
    """Whether a tool said what the agent answers. A pipeline has no other way."""
    if "turns" not in prediction:
        return True
    said = [turn["observation"] for turn in prediction.turns if not turn["failed"]]
    return any(
        same(word, prediction.answer.strip(" .$%").lower()) for text in said for word in re.split(r"[\s,;]+", text)
    )


@metric
def right_and_grounded(example: dspy.Example, prediction: dspy.Prediction) -> Score:
    right, by_tool = same(prediction.answer, example.answer), grounded(prediction)
    feedback = "" if right else f"The answer is {example.answer}."
    if right and not by_tool:
        feedback = "Right, but no tool said so: a guess counts nothing."
    return Score(float(right and by_tool), feedback=feedback, parts={"right": float(right), "grounded": float(by_tool)})


experiment = Experiment(
    dataset=Dataset("finance"),
    metric=right_and_grounded,
    program=FinanceAgent,
    stages=[
        Stage("nearest", NearestDemos, k=4, order="last"),
        Stage("weights", BootstrapFinetune, max_labeled_rows=100, exclude_demos=True, train_kwargs={"epochs": 4}),
    ],
    plateau=Plateau(patience=2, min_gain=0.01, equivalence_margin=0.03, confidence=0.90, on_plateau="escalate"),
    budget=Budget(lm_calls=6_000, minutes=120),
    target=0.95,
)
