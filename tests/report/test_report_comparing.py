"""Runs side by side: verdicts only where they mean something, and which stages no other beats."""

import dataclasses
import itertools
import json

import pytest
import report_journals as by_hand
from hypothesis import given
from hypothesis import strategies as st

from cascade.comparison import compare
from cascade.errors import ExperimentError, Refused
from cascade.report.comparing import Point, SideBySide, pareto, side_by_side
from cascade.report.cost_chart import _overlap, _places, cost_chart
from cascade.report.reading import read
from cascade.report.scale import marks
from cascade.sources import code_of

LATER = "20261119-110640-aaaa"
THIRD = "20261120-110640-bbbb"
GROUPS = {split: {f"{split}-{number:04}": str(number % 22) for number in range(by_hand.N)} for split in ("dev", "test")}


@pytest.fixture
def first(tmp_path):
    return by_hand.completed(tmp_path, best=range(4, 16))


@pytest.fixture
def second(tmp_path):
    return by_hand.completed(tmp_path, id=LATER, best=range(1, 23))


def both(*journals):
    return side_by_side([read(journal) for journal in journals])


def test_the_verdict_is_that_of_the_paired_comparison(first, second):
    (pair,) = both(first, second).pairs
    expected = compare(by_hand.scores(range(1, 23)), by_hand.scores(range(4, 16)), confidence=0.9, margin=0.03)
    assert pair.dev.comparison == pair.test.comparison == expected
    assert str(pair.dev.verdict) == "better"
    assert pair.dev.says.startswith(
        "On dev (both selected on dev), 24 examples: 1-words 91.7% against 1-words 50.0%: +41.7 points ["
    )
    assert pair.dev.says.endswith("] at 90.0% confidence: better.")
    assert pair.examples.sentence == "10 examples won, 0 lost, 14 level"
    assert pair.prompts == ()


def test_groups_of_the_journal_widen_the_interval(first, second):
    plain = both(first, second).pairs[0].dev.comparison
    for journal in (first, second):
        journal.write("groups.json", GROUPS)
    grouped = both(first, second).pairs[0].dev.comparison
    assert (plain.units, grouped.units) == (24, 22)
    assert grouped.method.endswith("groups")


def test_confidence_is_corrected_for_the_pairs_that_can_be_compared(tmp_path, first, second):
    third = by_hand.completed(tmp_path, id=THIRD, best=range(20))
    confidences = [pair.dev.comparison.interval.confidence for pair in both(first, second, third).pairs]
    assert confidences == [pytest.approx(1 - 0.1 / 3)] * 3
    third.update(params={**third.run.params, "metric": "other"})
    found = [pair.dev.comparison for pair in both(first, second, third).pairs]
    assert [told and told.interval.confidence for told in found] == [0.9, None, None]


def test_the_same_program_is_unchanged(first, tmp_path):
    (pair,) = both(first, by_hand.completed(tmp_path, id=LATER, best=range(4, 16))).pairs
    assert (str(pair.dev.verdict), str(pair.test.verdict), pair.dev.comparison) == ("unchanged", "unchanged", None)
    assert pair.dev.says == "On dev: the same program; nothing was tested."
    other = by_hand.completed(tmp_path, id=THIRD, best=range(4, 16), parts={**first.run.parts, "source": "s2"})
    (pair,) = both(first, other).pairs
    assert str(pair.dev.verdict) == "inconclusive"
    assert "less than" in pair.dev.says and "would likely not have been seen" in pair.dev.says


def splits(journal, split, **changes):
    return {"splits": {**journal.run.splits, split: {**journal.run.splits[split], **changes}}}


REFUSED = [
    (lambda one: one.update(params={**one.run.params, "metric": "exact"}), "were judged by different metrics, 'right' and 'exact'"),
    (lambda one: one.write("source.py", by_hand.SOURCE.replace("LIMIT = 1", "LIMIT = 2")), "different code of the metric 'right'"),
    (lambda one: one.update(**splits(one, "dev", fingerprint="feedfacecafe")), "had different rows in dev (fingerprints dev012345678 and feedfacecafe)"),
    (lambda one: one.update(**splits(one, "dev", fingerprint="")), "(fingerprints dev012345678 and unknown)"),
    (lambda one: (one.folder / "groups.json").unlink(), "does not say which examples belong together"),
    (lambda one: one.write("groups.json", {"dev": {"dev-0001": "x"}}), "grouped the rows of dev differently"),
    (lambda one: (one.folder / "1-words" / "examples.json").unlink(), "has no scores by example of dev"),
    (lambda one: one.write("1-words/examples.json", by_hand.table(range(3), id=[f"x{n}" for n in range(by_hand.N)])), "were not judged on the same examples of dev"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "why"), REFUSED, ids=[why[:30] for _, why in REFUSED])
def test_what_cannot_be_compared_is_refused_in_a_sentence(first, second, change, why):
    for journal in (first, second):
        (journal.folder / "test.json").unlink()
    change(second)
    with pytest.raises(Refused) as caught:
        both(first, second)
    message = str(caught.value)
    assert why in message
    assert LATER in message
    assert "\n" not in message


def test_one_split_may_be_compared_without_the_other(first, second):
    second.update(**splits(second, "test", fingerprint="feedfacecafe"))
    (pair,) = both(first, second).pairs
    assert str(pair.dev.verdict) == "better"
    assert pair.test.verdict is None
    assert "had different rows in test" in pair.test.says
    second.update(**splits(second, "test", fingerprint="test01234567"), test={})
    assert both(first, second).pairs[0].test.says == f"Run {LATER} did not look at test."


def test_one_run_is_nothing_to_compare(first):
    with pytest.raises(ExperimentError, match="One run of 'qa' is nothing to compare"):
        both(first)


def test_a_run_that_judged_nothing_is_said_to_be_so(tmp_path, first, second):
    begun = by_hand.begun(tmp_path, id=THIRD)
    last = both(first, second, begun).pairs[-1]
    assert (last.dev.verdict, last.dev.says) == (None, f"Run {THIRD} judged no program.")


def test_what_differs_is_named_with_each_value(first, second):
    second.update(lms={"task": "openai/other"}, git_sha="f" * 40, params={**second.run.params, "seed": "2"})
    assert both(first, second).differences == {"seed": ("1", "2"), "git commit": ("0" * 12, "f" * 12)}


BEFORE = "import re\n\nLIMIT = 1\n\n\ndef helper(x):\n    return re.sub('a', '', x)\n\n\ndef right(a, b):\n    return helper(a) == b\n"
VERSIONS = [
    (BEFORE, True), (BEFORE.replace("\n\n\n", "\n") + "# a comment\n", True), (BEFORE + "\n\nprompt = 'other'\n", True),
    (BEFORE.replace("def right(a, b):", 'def right(a, b):\n    "Says so."'), True), (BEFORE.replace("LIMIT = 1", "LIMIT = 2"), True),
    (BEFORE.replace("'a'", "'b'"), False), (BEFORE.replace("== b", "!= b"), False), (BEFORE.replace("import re", "import re2 as re"), False),
    ("x = 1\n", False), ("def right(:", False),
]  # fmt: skip


@pytest.mark.parametrize(("after", "same"), VERSIONS)
def test_a_metric_is_its_code_and_what_it_uses_of_its_file(after, same):
    assert (code_of(BEFORE, "right") == code_of(after, "right")) is same


def hashed(journal, code):
    journal.update(parts={**journal.run.parts, "metric_code": code})


def test_the_hash_of_a_metric_s_code_decides_where_both_journals_have_it(first, second):
    hashed(first, "aaaa")
    hashed(second, "aaaa")
    second.write("source.py", by_hand.SOURCE.replace("LIMIT = 1", "LIMIT = 2"))
    assert both(first, second).pairs[0].dev.comparison is not None
    hashed(second, "bbbb")
    with pytest.raises(Refused, match="were judged by different code of the metric 'right'"):
        both(first, second)


def test_a_metric_that_old_journals_do_not_tell_is_not_taken_for_the_same(first, second):
    for journal in (first, second):
        journal.update(params={**journal.run.params, "metric": "<lambda>"})
    assert both(first, second).pairs[0].dev.comparison is not None
    second.write("source.py", by_hand.SOURCE + "\nmore = 1\n")
    with pytest.raises(
        Refused, match="may have been judged by different code of the metric '<lambda>', which their journ"
    ):
        both(first, second)


def test_stages_that_no_other_beats(first, second):
    compared = both(first, second)
    assert compared.unit == "dollars"
    assert [(point.stage, point.run[-4:], point.frontier) for point in compared.points] == [
        ("1-words", "aaaa", True), ("2-more", "4f2a", False), ("1-words", "4f2a", False), ("0-baseline", "4f2a", False)
    ]  # fmt: skip


@pytest.mark.parametrize(("prices", "unit"), [((None, 0.1), "tokens"), ((0.0, 0.0), "tokens"), ((0.0, 0.1), "dollars")])
def test_cost_is_dollars_only_where_all_are_known_and_not_all_nothing(tmp_path, prices, unit):
    journal = by_hand.begun(tmp_path)
    for number, price in enumerate(prices):
        serving = {"input_tokens": 50.0 - number, "output_tokens": 4.0} | ({} if price is None else {"cost_usd": price})
        by_hand.stage(journal, number, f"s{number}", range(9 + number), serving=serving)
    points, found = pareto([read(journal)])
    assert found == unit
    assert [point.cost for point in points] == ([53.0, 54.0] if unit == "tokens" else list(prices))


@pytest.mark.parametrize(("weights", "unit"), [((36.0, 27.0), "weights_gb"), ((36.0, None), "tokens")])
def test_embedded_models_are_compared_by_the_weights_that_their_tokens_pass(tmp_path, weights, unit):
    journal = by_hand.begun(tmp_path)
    for number, weight in enumerate(weights):
        serving = {"input_tokens": 50.0, "output_tokens": 4.0, "cost_usd": 0.0} | (
            {} if weight is None else {"weights_gb": weight}
        )
        by_hand.stage(journal, number, f"s{number}", range(9 + number), serving=serving)
    points, found = pareto([read(journal)])
    assert found == unit
    assert {point.cost for point in points} == ({36.0, 27.0} if unit == "weights_gb" else {54.0})


POINTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12)


@given(POINTS)
def test_the_frontier_is_what_nothing_beats(pairs):
    points = frontier(pairs)
    for point in points:
        beaten = any(
            o.score >= point.score and o.cost <= point.cost and (o.score, o.cost) != (point.score, point.cost)
            for o in points
        )
        assert point.frontier is not beaten
    scores = [point.score for point in points if point.frontier]
    assert scores == sorted(scores)


def frontier(pairs):
    from cascade.report import comparing

    bare = [Point("r", str(number), score / 9, float(cost)) for number, (score, cost) in enumerate(pairs)]
    ordered = sorted(bare, key=lambda point: (point.cost, -point.score))
    return [comparing._placed(point, ordered) for point in ordered]


@given(POINTS)
def test_labels_cover_nothing_and_everything_is_inside(pairs):
    compared = SideBySide((), (), {}, tuple(frontier(pairs)), "tokens", ())
    compared = dataclasses.replace(compared, runs=(type("R", (), {"id": "r"}),))
    chart = cost_chart(compared)
    if len(pairs) < 2:
        assert chart is None
        return
    assert all(chart.left <= dot.x <= chart.right and chart.top <= dot.y <= chart.bottom for dot in chart.dots)
    shown = [dot for dot in chart.dots if dot.label_x is not None]
    boxes = [
        next(box for placed, box in _places(dot) if placed.label_x == dot.label_x and placed.label_y == dot.label_y)
        for dot in shown
    ]
    for number, box in enumerate(boxes):
        assert not any(_overlap(box, other) for other in boxes[:number])
        assert not any(_overlap(box, (dot.x - 5, dot.y - 5, dot.x + 5, dot.y + 5)) for dot in chart.dots)


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_marks_enclose_their_range_in_few_even_steps(one, other):
    low, high = sorted((one, other))
    found = marks(low, high)
    assert 2 <= len(found) <= 11
    slack = 1e-6 * max(1.0, high)
    assert found[0] <= low + slack and found[-1] >= high - slack
    gaps = [after - before for before, after in itertools.pairwise(found)]
    assert max(gaps) - min(gaps) <= slack


def test_a_document_is_plain_json(first, second):
    from cascade.report.document import comparison_document, run_document

    told = json.loads(json.dumps(comparison_document(both(first, second))))
    assert told["pairs"][0]["dev"]["verdict"] == "better"
    assert told["pairs"][0]["test"]["n"] == 24
    assert [point["frontier"] for point in told["pareto"]["points"]] == [True, False, False, False]
    run = json.loads(json.dumps(run_document(read(first))))
    assert (run["proven"], run["best_stage"], len(run["won"]), run["level"]) == (
        run["test"]["proven"],
        "1-words",
        10,
        10,
    )
