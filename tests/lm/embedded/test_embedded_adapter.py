"""What the adapter sends: the short form to embedded models, `dspy.ChatAdapter`'s own to all others."""

from typing import Literal

import dspy
import pytest
from dspy import lm15

from cascade.lm.embedded import EmbeddedEngine, FormatForcingAdapter, Models, embedded_lm
from cascade.lm.embedded.adapter import training_adapter


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
