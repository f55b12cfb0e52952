"""The engine with the real model: the same answers in any order, formats that parse, errors that say what to do."""

import asyncio
import copy
import pickle
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Literal

import dspy
import pytest
from dspy import lm15
from dspy.utils.exceptions import ContextWindowExceededError, LMUnsupportedFeatureError, LMUnsupportedModelError

from cascade.lm.embedded import EmbeddedEngine, FormatForcingAdapter, embedded_lm
from cascade.lm.embedded.engine import _sampling
from cascade.lm.embedded.forcing import Form
from cascade.lm.embedded.gguf_file import GgufModel, requantise, tokenizer

pytestmark = pytest.mark.embedded

THINGS = [
    "my card",
    "a suitcase",
    "the rain",
    "an alarm",
    "my PIN",
    "a flight",
    "some money",
    "the balance",
    "Rome",
    "a bus",
]
QUESTIONS = [f"{start} {thing}?" for thing in THINGS for start in ("What about", "Where did I leave")]


class Route(dspy.Signature):
    """Answer with the action that helps."""

    question: str = dspy.InputField()
    answer: Literal["transfer", "freeze_card", "freeze_account", "weather", "alarm", "luggage"] = dspy.OutputField()


class Report(dspy.Signature):
    """Describe the text."""

    text: str = dspy.InputField()
    urgent: bool = dspy.OutputField()
    days: int = dspy.OutputField()
    share: float | None = dspy.OutputField()
    tags: list[str] = dspy.OutputField()
    note: str = dspy.OutputField()
    level: Literal[1, 2, 3] = dspy.OutputField()


@pytest.fixture
def lm(engine):
    return embedded_lm("smollm2-135m", engine, cache=False)


def answers(lm, questions, threads):
    def ask(question):
        with dspy.context(lm=lm, adapter=FormatForcingAdapter()):
            return dspy.Predict(Route)(question=question).answer

    with ThreadPoolExecutor(threads) as pool:
        return dict(zip(questions, pool.map(ask, questions), strict=True))


def test_answers_do_not_depend_on_order_or_threads(lm):
    shuffled = random.Random(1).sample(QUESTIONS, len(QUESTIONS))
    first = answers(lm, QUESTIONS, threads=2)
    assert first == answers(lm, shuffled, threads=2)
    assert len(set(first.values())) > 1


def test_stopping_early_gives_the_answer_of_the_whole_grammar(lm, engine):
    from cascade.lm.embedded.forcing import slots, value_grammar
    from cascade.lm.embedded.prompts import render

    (slot,) = slots(Route)
    pool, template, _vocabulary = engine._model("smollm2-135m")
    expected = answers(lm, QUESTIONS[:6], threads=1)
    for question in QUESTIONS[:6]:
        messages = FormatForcingAdapter().format_finetune_data(Route, [], {"question": question}, {"answer": "alarm"})
        prompt = render(template, messages["messages"][:-1]) + slot.header
        body = {"prompt": prompt, "grammar": value_grammar(slot), "temperature": 0.0, "max_tokens": 20, "stop": ["\n"]}
        with pool.lease() as server:
            assert server.complete(body)["choices"][0]["text"] == expected[question]


def test_all_types_parse_sync_and_async(lm):
    with dspy.context(lm=lm, adapter=FormatForcingAdapter()):
        report = dspy.Predict(Report)(text="The server is down.", config={"max_tokens": 20})
        again = asyncio.run(dspy.Predict(Report).acall(text="The server is down.", config={"max_tokens": 20}))
    assert isinstance(report.urgent, bool)
    assert isinstance(report.days, int)
    assert isinstance(report.tags, list)
    assert report.level in (1, 2, 3)
    assert report.toDict() == again.toDict()
    usage = lm.history[-1]["usage"]
    assert usage["prompt_tokens"] > 50
    assert usage["completion_tokens"] > 0


def test_a_seed_comes_from_the_request_and_rollouts_and_candidates_differ():
    request = lm15.Request(model="m", messages=(lm15.Message.user("Hi"),), config=lm15.Config(temperature=1.0))
    one = Form((), rollout=1)
    seeds = [_sampling(request, form).seed for form in (Form((), rollout=1), one, one, Form((), rollout=2))]
    assert seeds[0] == seeds[1]
    assert len(set(seeds)) == 3
    greedy = replace(request, config=lm15.Config(temperature=0.0))
    assert _sampling(greedy, one).seed is None


def test_too_long_a_prompt_is_a_context_error(lm):
    with pytest.raises(ContextWindowExceededError, match=r"4096\. Use fewer or shorter demos"):
        lm("word " * 5000)
    with pytest.raises(ContextWindowExceededError), dspy.context(lm=lm, adapter=FormatForcingAdapter()):
        dspy.Predict(Route)(question="word " * 5000)


def test_unknown_weights_and_unsupported_requests_are_refused(engine, lm):
    with pytest.raises(LMUnsupportedModelError, match="No embedded model 'nope'"):
        embedded_lm("nope", engine, cache=False)("Hi")
    with pytest.raises(LMUnsupportedFeatureError, match="response_format"):
        lm("Hi", response_format={"type": "json_object"})


def test_identity_tells_the_mode(models):
    weights = models.identity("smollm2-135m")
    assert EmbeddedEngine(models).identity("embedded/smollm2-135m") == f"{weights}-det"
    assert EmbeddedEngine(models, deterministic=False).identity("smollm2-135m") == f"{weights}-fast"


def test_copies_share_the_engine_and_state_has_no_path(engine, lm, models, monkeypatch):
    assert copy.deepcopy(lm).engine is engine
    state = lm.dump_state()
    assert str(models.home) not in str(state)
    monkeypatch.setenv("CASCADE_HOME", str(models.home))
    loaded = dspy.LM.load_state(state, allow_custom_lm_class=True)
    assert loaded.engine.identity(loaded.model) == engine.identity(lm.model)
    assert pickle.loads(pickle.dumps(engine)).models.home == models.home


def test_kill_is_idempotent_and_weights_load_again(engine, lm):
    lm.kill()
    lm.kill()
    lm.launch()
    lm.launch()
    assert lm("Hi", max_tokens=2)


def test_signal_handlers_stay_ours(engine, lm):
    lm.kill()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
    try:
        lm.launch()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_torch_and_llama_cpp_agree_on_tokens_and_probabilities(engine, models, tmp_path):
    torch = pytest.importorskip("torch")
    file = GgufModel(models.path("smollm2-135m"))
    encoder, network = tokenizer(file), file.load().eval()
    texts = [
        "The capital of France is",
        "naïve café — 1234  spaces\n\n\nnew",
        "<|im_start|>user\nhi<|im_end|>\n",
        "x**2 don't",
    ]
    pool, *_rest = engine._model("smollm2-135m")
    for text in texts:
        with pool.lease() as server:
            reply = server.complete({"prompt": text, "max_tokens": 1, "temperature": 0.0, "logprobs": 3})
        ids = encoder.encode(text).ids
        assert reply["usage"]["prompt_tokens"] == len(ids)
        with torch.no_grad():
            logits = network(input_ids=torch.tensor([ids])).logits[0, -1]
        top = reply["choices"][0]["logprobs"]["content"][0]
        # llama.cpp rounds activations to 8 bits, hence the tolerance, in nats.
        assert torch.log_softmax(logits, -1)[top["id"]].item() == pytest.approx(top["logprob"], abs=0.3)
    from cascade.lm.embedded.gguf_file import write_trained

    again = GgufModel(write_trained(file, network.state_dict(), tmp_path / "again.gguf"))
    pairs = zip(file.reader.tensors, again.reader.tensors, strict=True)
    assert all((one.data == two.data).all() for one, two in pairs)
    assert requantise(file.path, tmp_path / "copy.gguf").stat().st_size == file.path.stat().st_size


def test_the_same_bits_come_back_whatever_was_answered_before(engine):
    start = "<|im_start|>system\nAnswer with the name of an animal.<|im_end|>\n"
    asked = start + "<|im_start|>user\nWhat barks at the post?<|im_end|>\n<|im_start|>assistant\n"
    others = ("<|im_start|>user\nWhat barks at night?<|im_end|>\n", "<|im_start|>user\nWhat bar?<|im_end|>\n", "")

    def likely(server):
        server.read(start)
        reply = server.complete(
            {"prompt": asked, "max_tokens": 1, "temperature": 0.0, "cache_prompt": True, "logprobs": 5}
        )
        return reply["choices"][0]["logprobs"]

    pool = engine._model("smollm2-135m")[0]
    with pool.lease() as server:
        first = likely(server)
        for other in others:
            server.complete({"prompt": start + other, "max_tokens": 3, "temperature": 0.0, "cache_prompt": True})
            assert likely(server) == first
        server.complete({"prompt": others[0], "max_tokens": 3, "cache_prompt": True})
        assert likely(server) == first


def test_a_server_that_has_read_the_start_is_taken_first(engine):
    pool = engine._model("smollm2-135m")[0]
    with pool.lease() as one:
        with pool.lease() as two:
            two.read("two")
        one.read("one")
    with pool.lease("two") as taken:
        assert taken is two
    with pool.lease("one") as taken:
        assert taken is one
