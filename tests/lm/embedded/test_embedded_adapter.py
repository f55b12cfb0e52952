"""What the adapter sends: the short form to embedded models, `dspy.ChatAdapter`'s own to all others."""

import asyncio
from typing import Literal

import dspy
import pytest
from dspy import lm15

from cascade.lm.embedded import EmbeddedEngine, FormatForcingAdapter, Models, embedded_lm
from cascade.lm.embedded.adapter import _roomy, training_adapter


class Recorder:
    """An engine that keeps requests and gives a fixed answer."""

    def __init__(self):
        self.requests = []

    def complete(self, request):
        self.requests.append(request)
        part = lm15.TextPart("[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]")
        return lm15.Response(
            id=None,
            model=request.model,
            message=lm15.Message.assistant([part]),
            finish_reason="stop",
            usage=lm15.Usage(),
        )


class AsyncRecorder:
    """The same, awaited."""

    def __init__(self, engine):
        self.engine = engine

    async def complete(self, request):
        return self.engine.complete(request)


class Ask(dspy.Signature):
    """Answer."""

    question: str = dspy.InputField()
    answer: Literal["yes", "no"] = dspy.OutputField()


def test_other_lms_get_what_chat_adapter_sends():
    sent = []
    for adapter in (dspy.ChatAdapter(), FormatForcingAdapter()):
        engine = Recorder()
        with dspy.context(lm=dspy.LM("other/model", engine=engine, cache=False), adapter=adapter):
            assert dspy.Predict(Ask)(question="Well?").answer == "yes"
        sent.append(engine.requests)
    assert sent[0] == sent[1]


@pytest.mark.parametrize(("adapter", "sent"), [(FormatForcingAdapter(), 12 + 11 + 12), (dspy.ChatAdapter(), 12)])
def test_a_limit_of_values_leaves_other_lms_room_for_the_headers_that_embedded_ones_are_given(adapter, sent):
    engine = Recorder()
    lm = dspy.LM("other/model", engine=engine, async_engine=AsyncRecorder(engine), cache=False)
    with dspy.context(lm=lm, adapter=adapter):
        asked = dspy.Predict(Ask, max_tokens=12)
        assert asked(question="Well?").answer == "yes"
        assert asyncio.run(asked.acall(question="Well?")).answer == "yes"
    assert [request.config.max_tokens for request in engine.requests] == [sent, sent]
    assert asked.config == {"max_tokens": 12}


@pytest.mark.parametrize(
    ("model", "given"),
    [("openai/gpt-4o-mini", {"temperature": 0.5, "max_tokens": 35}), ("openai/gpt-5-mini", {"temperature": 0.5})],
)
def test_one_that_reasons_first_is_not_held_to_a_limit_of_values(model, given):
    assert _roomy(dspy.LM(model), {"temperature": 0.5, "max_tokens": 12}, Ask) == given


def test_an_embedded_model_gets_the_limit_as_it_is(tmp_path):
    engine = EmbeddedEngine(Models(tmp_path))
    assert _roomy(embedded_lm("any", engine), {"max_tokens": 12}, Ask) == {"max_tokens": 12}


def test_finetune_rows_have_no_format_reminder_and_end_with_the_marker():
    row = FormatForcingAdapter().format_finetune_data(Ask, [], {"question": "Well?"}, {"answer": "no"})
    *_, user, assistant = row["messages"]
    assert user["content"] == "[[ ## question ## ]]\nWell?"
    assert assistant["content"] == "[[ ## answer ## ]]\nno\n\n[[ ## completed ## ]]\n"


def test_no_json_fallback_unless_asked_for():
    assert FormatForcingAdapter().use_json_adapter_fallback is False
    assert FormatForcingAdapter(use_json_adapter_fallback=True).use_json_adapter_fallback is True


@pytest.mark.parametrize("option", ["use_native_function_calling"])
def test_options_of_chat_adapter_are_kept(option):
    assert getattr(FormatForcingAdapter(**{option: True}), option) is True


def test_training_rows_have_the_form_that_the_trained_model_is_asked_in(tmp_path):
    embedded, other = embedded_lm("any", EmbeddedEngine(Models(tmp_path))), dspy.LM("openai/any", engine=Recorder())
    forcing, plain = FormatForcingAdapter(), dspy.ChatAdapter()
    with dspy.context(adapter=forcing):
        assert training_adapter(embedded) is forcing
        assert type(training_adapter(other)) is dspy.ChatAdapter
    with dspy.context(adapter=plain):
        assert training_adapter(embedded) is training_adapter(other) is plain
