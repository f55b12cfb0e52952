"""Can a small model write the llms.txt of a site: what each page is called, what it is about, where it belongs?

A polite crawler reads the site; a step places each page under a title and a section, another takes the sentence that
says what it is about; the file is put together and checked by code. So no link is made up and no file is malformed,
whatever the model says. The plain program does a page in one call.
"""

import re
from collections import Counter
from typing import Any, Literal

import dspy

from cascade import Budget, Dataset, Experiment, Plateau, Score, metric
from cascade.errors import StepFailed
from cascade.programs import Pipeline, Step
from cascade.recipes import small
from cascade.tools.crawl import crawl
from cascade.tools.html_text import opening, without_boilerplate
from cascade.tools.llms_txt import Link, LlmsTxt, faults, parse, text_of

Section = Literal["sql", "c api", "extensions", "internals", "about", "releases"]
HEADINGS = {
    "sql": "SQL",
    "c api": "C API",
    "extensions": "Extensions",
    "internals": "Internals",
    "about": "About",
    "releases": "Optional",
}
"""`Optional` is what the format calls pages that may be left out."""


class Place(dspy.Signature):
    """Give the page of a database's documentation its title, and the section where it belongs."""

    text: str = dspy.InputField(desc="how the page begins")
    section: Section = dspy.OutputField()
    title: str = dspy.OutputField()


class Summarise(dspy.Signature):
    """Copy the sentence that says what the page is about."""

    text: str = dspy.InputField(desc="how the page begins")
    summary: str = dspy.OutputField()


class Whole(dspy.Signature):
    """Give the page its section and its title, and copy the sentence that says what it is about."""

    text: str = dspy.InputField(desc="how the page begins")
    section: Section = dspy.OutputField()
    title: str = dspy.OutputField()
    summary: str = dspy.OutputField()


def entry(url: str, title: str, section: str, summary: str) -> str:
    """The file of this page alone."""
    return text_of(LlmsTxt(title, sections=((HEADINGS[section], (Link(title, url, summary),)),)))


def DescribePage() -> Pipeline:
    """Place, summarise, write."""
    return Pipeline(
        "url, text -> llms_txt",
        place=dspy.Predict(Place, max_tokens=40),
        summarise=dspy.Predict(Summarise, max_tokens=64),
        write=Step(entry, gives="llms_txt"),
    )


class PlainPage(dspy.Module):
    """The simplest program for it: one call."""

    def __init__(self) -> None:
        super().__init__()
        self.describe = dspy.Predict(Whole, max_tokens=96)

    def forward(self, url: str, text: str) -> dspy.Prediction:
        said = self.describe(text=text)
        return dspy.Prediction(**said, llms_txt=entry(url, said.title, said.section, said.summary))


def generate(start: str, program: Any, **how: Any) -> str:
    """The llms.txt of a site.

    Args:
        start: its first page.
        program: of one page, such as the best of this experiment.
        how: of `cascade.tools.crawl.crawl`.

    Raises:
        StepFailed: nothing could be read.
    """
    pages = crawl(start, **how).pages
    lines = without_boilerplate({page.url: page.document.lines for page in pages})
    told = [program(url=page.url, text=opening(lines[page.url])) for page in pages]
    sections: dict[str, list[Link]] = {heading: [] for heading in HEADINGS.values()}
    for one, page in zip(told, pages, strict=True):
        sections[HEADINGS[one.section]].append(Link(one.title or page.document.title, page.url, one.summary))
    found = tuple((heading, tuple(links)) for heading, links in sections.items() if links)
    text = text_of(LlmsTxt(pages[0].document.title or told[0].title, told[0].summary, found))
    if wrong := faults(text, [page.url for page in pages]):
        raise StepFailed(f"What was written for {start!r} is no llms.txt: {wrong[0]}.")
    return text


@metric(threshold=0.85)
def described(example: dspy.Example, prediction: dspy.Prediction) -> Score:
    """Section .5, words of title and summary .25 each; `link` is whether a valid file leads to the page."""
    parts = {
        "section": float(prediction.section == example.section),
        "title": _f1(example.title, prediction.title),
        "summary": _f1(example.summary, prediction.summary),
        "link": _leads_there(prediction, example),
    }
    value = 0.5 * parts["section"] + 0.25 * parts["title"] + 0.25 * parts["summary"]
    wrong = [f"{name} {example[name]!r}" for name in ("section", "title", "summary") if parts[name] < 1]
    return Score(value, f"It is {'; '.join(wrong)}." if wrong else "All of it is right.", parts)


def _leads_there(prediction: Any, example: Any) -> float:
    text = entry(example.url, prediction.title, prediction.section, prediction.summary)
    if faults(text, [example.url]):
        return 0.0
    return float([link.url for _, links in parse(text).sections for link in links] == [example.url])


def _f1(wanted: str, given: str) -> float:
    ours, theirs = (Counter(re.findall(r"\w+", text.lower())) for text in (wanted, given))
    return 2 * (ours & theirs).total() / ((ours + theirs).total() or 1)


experiment = Experiment(
    dataset=Dataset("llms_txt"),
    metric=described,
    program=DescribePage,
    stages=small(labels=66),
    plateau=Plateau(patience=2, min_gain=0.01, equivalence_margin=0.03, confidence=0.90, on_plateau="escalate"),
    budget=Budget(lm_calls=5_000, minutes=120),
    guardrails={"link": 0.0},
    target=0.95,
)
