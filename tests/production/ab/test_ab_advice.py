"""What is advised, by a table of cases, and the sentences to the letter."""

import json

import pytest

from cascade.errors import DefinitionError
from cascade.production.ab import Action, Advice, Arm, Evidence, Outcome, Rules, Verdict, advise

B, W, E, U = Verdict.BETTER, Verdict.WORSE, Verdict.EQUIVALENT, Verdict.UNDECIDED


def evidence(champion: tuple[int, int], challenger: tuple[int, int], share: float) -> Evidence:
    """Of so many passes and failures of each arm, spread evenly over time."""
    kinds = [(Arm.CHAMPION, champion), (Arm.CHALLENGER, challenger)]
    spread = sorted(
        ((place + 0.5) / count, str(arm), value)
        for arm, counts in kinds
        for value, count in zip((1.0, 0.0), counts, strict=True)
        for place in range(count)
    )
    return Evidence.at(share).after([Outcome(str(n), Arm(arm), v, share) for n, (_, arm, v) in enumerate(spread)])


CASES = [
    # passes and failures of champion and challenger, share, tolerance, verdict, action
    ((0, 0), (0, 0), 0.1, 0.0, U, Action.WAIT),
    ((18, 9), (2, 1), 0.1, 0.0, U, Action.WAIT),
    ((350, 150), (390, 110), 0.5, 0.0, U, Action.WAIT),
    ((350, 150), (425, 75), 0.5, 0.0, B, Action.PROMOTE),
    ((630, 270), (90, 10), 0.1, 0.0, B, Action.PROMOTE),
    ((350, 150), (275, 225), 0.5, 0.0, W, Action.STOP),
    ((350, 150), (305, 195), 0.5, 0.0, U, Action.STOP),  # enough on one side, not on two
    ((350, 150), (310, 190), 0.5, 0.0, U, Action.WAIT),
    ((350, 150), (285, 215), 0.5, 0.05, W, Action.KEEP),  # worse, and not surely by more than is tolerated
    ((350, 150), (225, 275), 0.5, 0.05, W, Action.STOP),
    ((14_000, 6_000), (14_000, 6_000), 0.5, 0.0, E, Action.KEEP),
    ((14_000, 6_000), (14_500, 5_500), 0.5, 0.0, B, Action.PROMOTE),  # better comes first, within the margin too
    ((350, 150), (637, 113), 0.5, 0.0, B, Action.WAIT),  # 60 % of the outcomes are the challenger's
    ((11_200, 4_800), (16_800, 7_200), 0.5, 0.0, E, Action.WAIT),
    ((350, 150), (125, 175), 0.5, 0.0, W, Action.STOP),  # harm is stopped whatever the shares
]


@pytest.mark.parametrize(("champion", "challenger", "share", "tolerance", "verdict", "action"), CASES)
def test_advice_by_cases(
    champion: tuple[int, int], challenger: tuple[int, int], share: float, tolerance: float, verdict: Verdict,
    action: Action,
) -> None:  # fmt: skip
    told = advise(evidence(champion, challenger, share), Rules(tolerance=tolerance))
    assert (told.verdict, told.action) == (verdict, action)
    assert told.n == (sum(champion), sum(challenger))
    low, high = told.interval.low, told.interval.high
    assert (verdict is B) == (low > 0)
    assert (verdict is W) == (high < 0)
    assert (verdict in (B, W, U)) or -0.03 <= low <= high <= 0.03


SENTENCES = {
    "nothing": (evidence((0, 0), (0, 0), 0.1), Rules()),
    "undecided": (evidence((630, 270), (75, 25), 0.1), Rules()),
    "better": (evidence((350, 150), (425, 75), 0.5), Rules(confidence=0.9)),
    "harm": (evidence((350, 150), (275, 225), 0.5), Rules()),
    "harm on one side": (evidence((350, 150), (305, 195), 0.5), Rules()),
    "more harm than tolerated": (evidence((350, 150), (225, 275), 0.5), Rules(tolerance=0.05)),
    "equivalent": (evidence((14_000, 6_000), (14_000, 6_000), 0.5), Rules()),
    "other shares": (evidence((350, 150), (637, 113), 0.5), Rules()),
    "would have been seen": (evidence((3500, 1500), (3635, 1365), 0.5), Rules(margin=0.05)),
    "no margin": (evidence((35, 15), (35, 15), 0.5), Rules(margin=0)),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_the_sentence(name: str) -> None:
    assert advise(*SENTENCES[name]).reason == EXPECTED[name]


EXPECTED = {
    "nothing": "Challenger – of 0 against champion – of 0: 0.0 points [-100.0, +100.0] at 95 % confidence: undecided. A difference of 3 points takes about 23,000 outcomes, 23,000 more.",
    "undecided": "Challenger 75.0 % of 100 against champion 70.0 % of 900: +5.4 points [-10.8, +18.9] at 95 % confidence: undecided. A difference of 3 points takes about 18,000 outcomes, 17,000 more.",
    "better": "Challenger 85.0 % of 500 against champion 70.0 % of 500: +15.1 points [+7.6, +22.5] at 90 % confidence: better.",
    "harm": "Challenger 55.0 % of 500 against champion 70.0 % of 500: -15.1 points [-24.5, -5.6] at 95 % confidence: worse. It does harm: it is worse, one-sided at 95 % confidence.",
    "harm on one side": "Challenger 61.0 % of 500 against champion 70.0 % of 500: -9.1 points [-18.5, +0.3] at 95 % confidence: undecided. It does harm: it is worse, one-sided at 95 % confidence.",
    "more harm than tolerated": "Challenger 45.0 % of 500 against champion 70.0 % of 500: -25.1 points [-34.4, -15.4] at 95 % confidence: worse. It does harm: it is worse by more than the 5 points tolerated, one-sided at 95 % confidence.",
    "equivalent": "Challenger 70.0 % of 20,000 against champion 70.0 % of 20,000: 0.0 points [-1.7, +1.7] at 95 % confidence: equivalent.",
    "other shares": "Challenger 84.9 % of 750 against champion 70.0 % of 500: +15.0 points [+7.8, +22.0] at 95 % confidence: better. 60.0 % of the outcomes are the challenger's where 50.0 % were set: one arm is heard less often or its outcomes are lost, and until it is known why, nothing is promoted or kept.",
    "would have been seen": "Challenger 72.7 % of 5,000 against champion 70.0 % of 5,000: +2.7 points [-0.5, +5.9] at 95 % confidence: undecided. A difference of 5 points would likely have been seen.",
    "no margin": "Challenger 70.0 % of 50 against champion 70.0 % of 50: +0.2 points [-31.1, +31.4] at 95 % confidence: undecided. No number of outcomes shows a difference of 0 points.",
}


def test_as_json_arms_have_names() -> None:
    document = json.loads(json.dumps(advise(*SENTENCES["better"]).to_json()))
    assert document["n"] == {"champion": 500, "challenger": 500}
    assert document["means"] == {"champion": 0.7, "challenger": 0.85}
    assert (document["verdict"], document["action"]) == ("better", "promote")
    assert document["interval"]["low"] < document["estimate"] < document["interval"]["high"]


def test_what_is_still_needed_is_counted_down() -> None:
    def more(times: int) -> int | None:
        return advise(evidence((63 * times, 27 * times), (7 * times, 3 * times), 0.1), Rules()).more

    first, later, enough = more(10), more(20), more(400)
    assert first is not None
    assert later is not None
    assert later == pytest.approx(first - 1_000, abs=300)
    assert enough == 0
    assert advise(Evidence.at(0.1), Rules(margin=0)).more is None


def test_an_arm_without_outcomes_has_no_mean() -> None:
    told: Advice = advise(evidence((3, 1), (0, 0), 0.1), Rules())
    assert told.means == (0.75, None)


@pytest.mark.parametrize("wrong", [{"confidence": 1.0}, {"confidence": 0}, {"margin": -0.1}, {"margin": 3},
                                   {"tolerance": -0.01}, {"tolerance": float("nan")}])  # fmt: skip
def test_rules_that_cannot_be_kept_are_refused(wrong: dict[str, float]) -> None:
    (name, value), *_ = wrong.items()
    with pytest.raises(DefinitionError, match=f"{name} = {value}: give a fraction"):
        Rules(**wrong)
