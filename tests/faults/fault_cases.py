"""The faults that a user can meet outside the state folder: LMs and metrics.

Each case is a function of a `Project` whose docstring names the fault. It injects it, checks what must hold, and returns
what was seen; `docs/faults.md` is written from that.
"""

from collections.abc import Callable
from dataclasses import dataclass

from fault_project import ROWS, Project

from cascade.testing import Reply

ONE = "dev 0 7"
WRONG = 'if example.question == "dev 0 7" and prediction.answer == "?"'
"""An answer that no check expects: what metrics do to expected ones is found before a run."""
WHOLE = 4 * ROWS
"""Requests of a run without faults: baseline and stage on dev, both on test."""


@dataclass(frozen=True)
class Seen:
    """A row of the matrix.

    Args:
        said: the line that the user reads.
        code: exit code.
        kept: what is on disk after it.
        then: how it goes on.
    """

    said: str
    code: int
    kept: str
    then: str


def status_429_once(project: Project) -> Seen:
    """an LM answers 429 now and then"""
    limited: set[str] = set()

    def reply(question: str) -> Reply | None:
        if question.endswith("7") and question not in limited:
            limited.add(question)
            return Reply(429, headers={"Retry-After": "0.05"})
        return None

    project.faults.reply = reply
    done = project.run()
    assert (project.answers, len(project.asked)) == (WHOLE, WHOLE + len(limited))
    assert not project.errors()
    return Seen(
        done.line("0-baseline: dev"),
        done.code,
        "every answer",
        "each such call is sent again, after `Retry-After` or 1, 2, 4 s",
    )


def status_429(project: Project) -> Seen:
    """an LM answers 429 to one example, each time"""
    return _one_example(project, Reply(429, headers={"Retry-After": "0.05"}), 2)


def status_500(project: Project) -> Seen:
    """an LM answers 500 to one example, each time"""
    return _one_example(project, Reply(500, headers={"Retry-After": "0.05"}), 2)


def hang(project: Project) -> Seen:
    """an LM never answers one example"""
    project.options |= {"timeout": 1.5, "num_retries": 0}
    return _one_example(project, Reply(hang=True), 1)


def cut_off(project: Project) -> Seen:
    """an LM's answer is cut off by the network"""
    project.options |= {"num_retries": 0}
    return _one_example(project, Reply(cut=40), 1)


def garbage(project: Project) -> Seen:
    """an LM answers with garbage, such as a proxy's page"""
    return _one_example(project, Reply(body="<html>Bad gateway"), 1)


def no_format(project: Project) -> Seen:
    """an LM answers in no format that DSPy can read"""
    sorry = Reply(body='{"choices": [{"message": {"content": "I am sorry."}}]}')
    project.faults.reply = lambda question: sorry if question == ONE else None
    done = project.run()
    assert list(project.errors()) == ["dev-0008"]
    assert len(project.asked) == project.answers == WHOLE + 2, "asked a second time, as JSON, in both stages"
    project.faults.reply = lambda _question: None
    assert project.run().code == 0
    assert len(project.asked) == WHOLE + 2
    said = done.line("0-baseline: 1 of 20")
    return Seen(
        said,
        done.code,
        "every answer, this one too: it is an answer",
        "the run goes on, the example scores 0; `--fresh` asks again",
    )


def all_500(project: Project) -> Seen:
    """an LM answers 500 to everything"""
    project.one_at_a_time()
    project.options |= {"num_retries": 0}
    project.faults.reply = lambda _question: Reply(500)
    done = project.run()
    assert project.journal.run.status == "failed"
    assert (project.home / "ledger.db").exists() and project.answers == 0
    project.faults.reply = lambda _question: None
    again = project.run()
    assert again.code == 0
    return Seen(done.last, done.code, "the journal: `failed`, and why", "running again is a new run")


def gone_in_the_middle(project: Project) -> Seen:
    """an LM's endpoint goes away in the middle"""
    project.one_at_a_time()
    project.options |= {"num_retries": 0}
    down: list[bool] = []
    project.faults.at[30] = lambda: down.append(True)
    project.faults.reply = lambda _question: Reply(500) if down else None
    done = project.run()
    answered = project.answers
    assert (done.code, project.journal.run.status) == (1, "failed")
    assert ROWS < answered < 30
    down.clear()
    before = len(project.asked)
    assert project.run().code == 0
    assert len(project.asked) - before == WHOLE - answered
    return Seen(
        done.last,
        done.code,
        "every answer that came; the stages that ended",
        "running again repeats no recorded answer",
    )


def wrong_key(project: Project) -> Seen:
    """the key is refused (401), and the server's error repeats it"""
    project.one_at_a_time()
    wrong = "sk-wrong-9876543210-zyxw"
    project.environ["OPENAI_API_KEY"] = wrong
    done = project.run()
    assert wrong not in done.err + done.out
    assert len(project.asked) <= ROWS  # not sent again
    return Seen(done.last, done.code, "the journal: `failed`, and why; not the key", "running again is a new run")


def metric_raises(project: Project) -> Seen:
    """the metric raises on one example"""
    _metric(project, f'{WRONG}:\n        raise ValueError("no such label")')
    done = project.run()
    assert project.errors() == {"dev-0008": "ValueError: no such label"}
    assert project.answers == WHOLE
    return Seen(
        done.line("0-baseline: 1 of 20"),
        done.code,
        "every answer; the error stands beside the example",
        "the run goes on; the example scores 0",
    )


def metric_always_raises(project: Project) -> Seen:
    """the metric raises on every example"""
    _metric(project, 'raise ValueError("no such label")')
    done = project.run()
    assert project.asked == []
    assert not project.home.exists()
    return Seen(done.last, done.code, "nothing was asked", "mend the metric, then run")


def metric_raises_on_wrong_answers(project: Project) -> Seen:
    """the metric raises on every answer that is wrong, as the first program's mostly are"""
    project.one_at_a_time()
    _metric(project, 'if prediction.answer == "?":\n        raise ValueError("no such label")')
    done = project.run()
    answered = project.answers
    assert project.journal.run.status == "failed"
    assert 10 < answered <= ROWS
    _metric(project, "pass")
    assert project.run().code == 0
    assert len(project.asked) == WHOLE
    return Seen(done.last, done.code, "every answer", "once the metric is mended, no answer is paid for again")


def metric_nan(project: Project) -> Seen:
    """the metric returns NaN for a wrong answer"""
    return _no_score(project, 'float("nan")')


def metric_seven(project: Project) -> Seen:
    """the metric returns 7 for a wrong answer"""
    return _no_score(project, "7")


def _one_example(project: Project, reply: Reply, requests: int) -> Seen:
    project.faults.reply = lambda question: reply if question == ONE else None
    done = project.run()
    assert list(project.errors()) == ["dev-0008"]
    assert project.asked.count(ONE) == 2 * requests, "once a program that is judged"
    failed = len(project.asked)
    assert project.journal.run.status == "completed"
    project.faults.reply = lambda _question: None
    again = project.run()
    assert (again.code, set(project.asked[failed:])) == (0, {ONE}), "only it is asked again"
    said = done.line("0-baseline: 1 of 20")
    return Seen(
        said,
        done.code,
        "all other answers; the error stands beside the example",
        "the run goes on, the example scores 0; the next run asks it again",
    )


def _no_score(project: Project, value: str) -> Seen:
    _metric(project, f"{WRONG}:\n        return {value}")
    done = project.run()
    assert "'dev-0008'" in done.last
    assert project.journal.run.status == "failed"
    _metric(project, "pass")
    assert project.run().code == 0
    assert len(project.asked) == WHOLE, "no answer was paid for twice"
    return Seen(
        done.last, done.code, "every answer that came", "once the metric is mended, no answer is paid for again"
    )


def _metric(project: Project, statement: str) -> None:
    file = "experiments/letters.py"
    text = (project.folder / file).read_text("utf-8")
    head, rest = text.split("def right(example, prediction):\n")
    tail = rest[rest.index("    return example.answer == prediction.answer") :]
    project.write(file, f"{head}def right(example, prediction):\n    {statement}\n{tail}")


CASES: tuple[Callable[[Project], Seen], ...] = (
    status_429_once, status_429, status_500, hang, cut_off, garbage, no_format, all_500, gone_in_the_middle, wrong_key,
    metric_raises, metric_always_raises, metric_raises_on_wrong_answers, metric_nan, metric_seven,
)  # fmt: skip
