"""What leaves the house: nothing that was not known to be harmless, whatever stood in it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cascade.errors import StepFailed
from cascade.testing import ScriptedEngine
from cascade.tools.sealed import _STARTERS, Sealed, anonymous, leaked

unhurried = settings(deadline=None)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("I am Ann Lee, 14 Mill Lane.", "I am <name> <name>, <number> <name> <name>."),
        ("write to ann@example.org or https://example.org/ann", "write to <email> or <email>"),
        ("call (212) 555-0134", "call <phone>"),
        ("my card is 4242 4242 4242 4242, the other 4111-1111-1111-1112", "my card is <card>, the other <number>"),
        ("from GB33 TEST 2026 0000 0000 01", "from <iban>"),
        ("born on 12.03.1988, customer KD-204817", "born on <number>, customer <number>"),
        ("born on the 4th of March 1988", "born on the 4th of <name> <number>"),
        ("We sent 2 of 12 boxes, $7", "We sent 2 of 12 boxes, $7"),
        ("it is 4 2-4 2", "it is <number>"),  # one number that was taken apart
        ('41|55; 55! [01] "34" <7> “8”', "<number>”"),
        ("[P1] 14 [P12], 15", "[P1] 14 [P12], 15"),
        ("We met. When I called, I'm sure. What now?", "We met. When I called, I'm sure. What now?"),
        ("We met Will. Will you help?", "We met <name>. <name> you help?"),
        ("How Are you", "<name> <name> you"),
        ("Dear Mr. So, please", "<name> <name>. <name>, please"),
        ("J. R. Ewing", "<name>. <name>. <name>"),
        ("mcDonald O'Brien Anna-Lena", "<name> <name> <name>"),
        ("４２４２ ａｎｎ＠example.org a\u200bnn@x.org", "<number> <email> <email>"),
        ("我叫王伟 hello", "<name> hello"),
        ("[P1] and <phone> stay, *** too", "[P1] and <phone> stay, *** too"),
        ("", ""),
    ],
)
def test_cases(text: str, left: str) -> None:
    assert anonymous(text) == left


@pytest.mark.parametrize(
    ("secret", "text", "told"),
    [
        ("Ann Lee", "Lee is here", True),
        ("Ann Lee", "sleeves and annals", False),
        ("Ann Lee", "I am [P1]", False),
        ("14 Mill Lane, Oldbridge", "a Lane somewhere", False),
        ("14 Mill Lane, Oldbridge", "in Oldbridge", True),
        ("GB33 TEST 2026 0000", "year 2026", True),
        ("ann.lee@example.com", "ask example.com", False),
        ("ann.lee@example.com", "ask ann", True),
        ("Ｌｅｅ", "Lee", True),
        ("Ann Lee", "is lee at home", True),
        ("Ann Lee", "L\u200bee", True),
        ("14 Mill Lane", "in the lane", False),
    ],
)
def test_what_counts_as_told(secret: str, text: str, told: bool) -> None:
    assert leaked([secret], text) == ([secret] if told else [])


def names() -> st.SearchStrategy[str]:
    """Two or three capitalised words of any alphabet that has capitals."""
    letters = st.characters(categories=["Ll"], max_codepoint=0x17F, exclude_characters="ßŉĸ")
    word = st.builds(lambda first, rest: first.upper() + rest, letters, st.text(letters, min_size=2, max_size=8))
    return st.lists(word, min_size=1, max_size=3).map(" ".join)


def digits(low: int, high: int) -> st.SearchStrategy[str]:
    return st.text("0123456789", min_size=low, max_size=high)


SECRETS = st.one_of(
    names(),
    st.builds(
        "{}.{}@{}.{}".format,
        st.text("ghijk", min_size=3),
        st.text("xyz", min_size=3),
        st.just("example"),
        st.just("com"),
    ),
    st.builds("{} {}-{}".format, digits(3, 3), digits(3, 3), digits(4, 4)),
    st.builds("GB{} TEST {} {} {}".format, digits(2, 2), digits(4, 4), digits(4, 4), digits(2, 2)),
    st.lists(digits(4, 4), min_size=4, max_size=4).map(" ".join),
    st.builds("{} {} Lane, {}".format, digits(1, 3), names(), names()),
    st.builds("{}.{}.19{}".format, digits(2, 2), digits(2, 2), digits(2, 2)),
    st.builds("KD-{}".format, digits(4, 8)),
)
AROUND = st.text("abc deft \n.,;:!?()'\"", max_size=25)


@st.composite
def messages(draw: Callable[..., Any]) -> tuple[list[str], str]:
    """Secrets, and a text of small letters in which they stand anywhere."""
    secrets = draw(st.lists(SECRETS, min_size=1, max_size=4))
    around = draw(st.lists(AROUND, min_size=len(secrets) + 1, max_size=len(secrets) + 1))
    text = around[0] + "".join(f" {secret} {after}" for secret, after in zip(secrets, around[1:], strict=True))
    assume(not {word.lower() for secret in secrets for word in secret.split()} & _STARTERS)
    return secrets, text


@unhurried
@given(messages())
def test_no_secret_is_left_wherever_it_stands(made: tuple[list[str], str]) -> None:
    secrets, text = made
    assert leaked(secrets, anonymous(text)) == []


@unhurried
@given(st.text())
def test_doing_it_again_changes_nothing_and_what_is_left_is_harmless(text: str) -> None:
    once = anonymous(text)
    assert anonymous(once) == once
    assert "@" not in once
    assert not any(word.isdigit() and len(word) > 2 for word in once.split())


def wire(step: Any, answer: Any = "", **fields: Any) -> list[str]:
    """All texts that a step's LM was sent, whether it could use the answer or not."""
    sent: list[str] = []

    class Recording(ScriptedEngine):
        def complete(self, request: Any) -> Any:
            system = (
                request.system if isinstance(request.system, str) else "".join(p.text for p in request.system or ())
            )
            sent.extend([system, *(message.text or "" for message in request.messages)])
            return super().complete(request)

    lm = dspy.LM("scripted/far", engine=Recording(lambda *_: answer or {"said": "fine"}), cache=False)
    with dspy.context(lm=lm), suppress(AdapterParseError):
        step(**fields)
    return sent


def test_demos_instructions_and_lists_are_sealed_too() -> None:
    asks = dspy.Predict(dspy.Signature("text, notes: list[str], age: int -> said", "Answer, e.g. to ann@example.org."))
    asks.demos = [{"text": "I am Bo Roe, 0123456789", "notes": ["Bo Roe"], "age": 1988, "said": "Dear Bo"}]
    sent = "\n".join(wire(Sealed(asks), text="I am Cy Poe", notes=["Cy Poe", "fine"], age=44))
    assert all(word not in sent for word in ("Roe", "Poe", "Bo", "Cy", "ann@", "0123456789", "1988"))
    assert "I am <name> <name>" in sent
    assert "44" in sent


def test_instructions_that_an_optimizer_wrote_are_sealed_too_and_those_of_the_program_are_its_own() -> None:
    step = Sealed(dspy.Predict(dspy.Signature("text -> said", "Answer for the Bank.")))
    assert "Answer for the Bank." in "\n".join(wire(step, text="fine"))
    copy = step.deepcopy()
    copy.step.signature = copy.step.signature.with_instructions("Answer as in: Cy Poe, 44 Mill Lane, is helped.")
    sent = "\n".join(wire(copy, text="fine"))
    assert all(word not in sent for word in ("Cy", "Poe", "Mill", "44")) and "is helped" in sent
    assert copy.step.signature.instructions.startswith("Answer as in: Cy Poe")
    loaded = Sealed(dspy.Predict(dspy.Signature("text -> said", "Answer for the Bank.")))
    loaded.load_state(copy.dump_state())
    assert "Poe" not in "\n".join(wire(loaded, text="fine"))


@pytest.mark.parametrize(
    "value", [[41, 55, 55], ["41", "55"], [[41], [55]], {"a": 41, "b": [55]}, {"41": "x", "55": "y"}, {"41": 55}, [41.5, 55]]
)  # fmt: skip
def test_a_number_that_was_taken_apart_in_a_field_is_sealed(value: Any) -> None:
    sent = "\n".join(wire(Sealed(dspy.Predict("text: Any -> said")), text=value))
    assert "41" not in sent and "55" not in sent
    assert "41" in "\n".join(wire(Sealed(dspy.Predict("text: Any -> said")), text=[41, True]))


def test_an_answer_in_no_format_opens_no_other_way_out() -> None:
    """DSPy's chat adapter would ask again as JSON, in an adapter of its own."""
    asks = Sealed(dspy.Predict("text -> said"))
    sent = wire(asks, "in no format", text="I am Cy Poe")
    with dspy.context(adapter=dspy.JSONAdapter()):
        sent += wire(asks, '{"said": "fine"}', text="I am Cy Poe")
    assert len(sent) >= 4
    assert "Poe" not in "\n".join(sent)


def test_it_is_sealed_when_awaited() -> None:
    asks = dspy.Predict("text -> said")
    seen: list[Any] = []

    class Looking(dspy.Module):
        async def aforward(self, text: str) -> Any:
            seen.extend([text, *dspy.settings.adapter.format(asks.signature, [], {"text": "I am Di Loe"})])
            return dspy.Prediction(said="fine")

    asyncio.run(Sealed(Looking()).acall(text="I am Cy Poe"))
    assert seen[0] == "I am <name> <name>"
    assert "Loe" not in str(seen)


def test_what_cannot_be_looked_through_is_not_sent() -> None:
    with pytest.raises(StepFailed, match="The field 'text' is a Image, which cannot be looked through"):
        wire(Sealed(dspy.Predict("text: dspy.Image -> said")), text=dspy.Image("https://example.org/a.png"))


def test_optimizers_find_the_predictor_and_pipelines_its_fields() -> None:
    sealed = Sealed(dspy.Predict("text -> said"))
    assert [name for name, _ in sealed.named_predictors()] == ["step"]
    assert list(sealed.signature.fields) == ["text", "said"]
