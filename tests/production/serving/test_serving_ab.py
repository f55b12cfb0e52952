"""A challenger beside the champion: who is answered by whom, what is said of it, and when it ends."""

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from asking import Asked, Asking
from by_hand_versions import Shop, eventually

from cascade.errors import JournalError
from cascade.mlflow_store.served import reviewed
from cascade.mlflow_store.store import connect, reaching
from cascade.production.ab.account import account
from cascade.production.ab.outcomes import Books, Said
from cascade.testing import ScriptedEngine


@pytest.fixture
def two(shop: Shop) -> Shop:
    """Version 1 is the champion, version 2 the challenger."""
    shop.publish("champion")
    shop.publish("challenger")
    return shop


def books(shop: Shop) -> Books:
    return Books(shop.settings.home, "qa")


def arms(server: Asking, users: list[str]) -> dict[str, str]:
    return {user: server.predict(user=user).json()["arm"] for user in users}


USERS = [f"user-{number}" for number in range(60)]


def test_a_key_keeps_its_program(two: Shop, asking: Asked) -> None:
    server = asking(share=0.5)
    first = arms(server, USERS)
    assert 15 < list(first.values()).count("challenger") < 45
    assert arms(server, USERS) == first
    by_header = {user: server.predict(headers={"X-Cascade-Key": user}).json()["arm"] for user in USERS}
    assert by_header == first
    told = server.predict(user=next(user for user, arm in first.items() if arm == "challenger")).json()
    assert (told["version"], told["outputs"]["answer"]) == ("2", "hi, says 2")
    assert arms(asking(share=0.5), USERS) == first  # another process, or after a restart


def test_a_larger_share_takes_nobody_back(two: Shop, asking: Asked) -> None:
    few, more = (arms(asking(share=share), USERS) for share in (0.1, 0.5))
    assert all(more[user] == "challenger" for user, arm in few.items() if arm == "challenger")
    assert 0 < list(few.values()).count("challenger") < list(more.values()).count("challenger")
    assert len(books(two).tests()) == 1


def test_without_a_key_each_request_is_drawn(two: Shop, asking: Asked) -> None:
    server = asking(share=0.5)
    assert {server.predict().json()["arm"] for _ in range(40)} == {"champion", "challenger"}


def test_another_challenger_is_another_test(two: Shop, asking: Asked) -> None:
    server = asking(share=0.5)
    first = arms(server, USERS)
    two.publish("challenger")
    server.live.look()
    second = arms(server, USERS)
    assert second != first and "challenger" in second.values()
    assert [test.challenger for test in books(two).tests()] == ["2", "3"]
    two.point("challenger", "")
    server.live.look()
    assert set(arms(server, USERS[:5]).values()) == {"champion"}
    two.point("champion", "3")
    two.point("challenger", "3")
    server.live.look()
    assert set(arms(server, USERS[:20]).values()) == {"champion"}


def test_a_challenger_that_takes_other_inputs_is_left_out(two: Shop, asking: Asked) -> None:
    file = two.folder / "experiments" / "qa.py"
    file.write_text(file.read_text().replace("forward(self, question)", "forward(self, question, tone='dry')"))
    two.publish("challenger", inputs=("question", "tone"))
    server = asking(share=0.5)
    assert set(arms(server, USERS[:20]).values()) == {"champion"}
    loads = len(list((two.settings.home / "programs").iterdir()))
    server.live.look()
    assert len(list((two.settings.home / "programs").iterdir())) == loads
    assert sum("takes other inputs" in line.get("message", "") for line in server.log()) == 1


def test_what_is_said_is_on_the_disk_when_it_is_answered(two: Shop, asking: Asked) -> None:
    server = asking(share=0.5)
    told = server.predict(user="ann").json()
    done = server.feedback(told["request_id"], value=0.25, outputs={"answer": "42"}, comment="close")
    assert (done.status_code, done.json()) == (200, {"recorded": True, "request_id": told["request_id"]})
    (said,) = books(two).said()[0]
    assert (said.request, said.arm, said.version) == (told["request_id"], told["arm"], told["version"])
    assert (said.value, said.corrections, said.comment, said.share) == (0.25, {"answer": "42"}, "close", 0.5)
    assert said.answered and said.answered["inputs"] == {"question": "hi"}
    assert said.answered["outputs"] == told["outputs"]
    assert "ann" not in books(two).outcomes.read_text()  # keys name people: their hash will do
    assert server.metrics()[f'cascade_feedback_total{{arm="{told["arm"]}"}}'] == 1


def test_feedback_that_does_not_fit(two: Shop, asking: Asked) -> None:
    server = asking()
    known = server.predict().json()["request_id"]
    cases: list[tuple[int, dict[str, Any]]] = [
        (422, {}),
        (422, {"value": 1.5}),
        (422, {"value": -0.1}),
        (422, {"value": "good"}),
        (422, {"value": "1"}),
        (422, {"value": 1, "more": 1}),
        (422, {"outputs": {"nothing": "x"}}),
        (422, {"outputs": {"answer": 7}}),
        (422, {"comment": "x" * 2001}),
    ]
    for status, said in cases:
        told = server.feedback(known, **said)
        assert told.status_code == status, (said, told.text)
    assert server.feedback("0" * 32, value=1).status_code == 404
    assert server.feedback("../../etc", value=1).status_code == 422
    assert books(two).said() == ([], 0)
    for value in (True, False, 0, 1, 0.5):
        assert server.feedback(known, value=value).status_code == 200
    assert [one.value for one in books(two).said()[0]] == [1.0, 0.0, 0.0, 1.0, 0.5]
    for _ in range(5):
        server.feedback(known, value=1)
    assert server.feedback(known, value=1).status_code == 409


def test_of_an_answer_that_failed_something_can_be_said(shop: Shop, asking: Asked) -> None:
    def fail(*_: Any) -> Mapping[str, str]:
        raise KeyError("x")

    shop.engine = ScriptedEngine(fail)
    shop.publish("champion")
    server = asking()
    failed = server.predict().json()["error"]["request_id"]
    assert server.feedback(failed, value=0).status_code == 200
    (said,) = books(shop).said()[0]
    assert said.answered and said.answered["error"] and said.answered["outputs"] == {}


def test_a_request_is_known_after_a_restart(two: Shop, asking: Asked) -> None:
    first = asking(share=0.5)
    request = first.predict(user="ann").json()["request_id"]
    first.parts.keeping.recent.drain.close(20)
    assert asking(share=0.5).feedback(request, value=1).status_code == 200


def test_a_disk_that_is_full(two: Shop, asking: Asked) -> None:
    server = asking()
    request = server.predict().json()["request_id"]
    books(two).outcomes.mkdir()
    told = server.feedback(request, value=1)
    assert told.status_code == 503 and "retry-after" in told.headers
    books(two).outcomes.rmdir()
    assert server.feedback(request, value=1).status_code == 200


def vote(server: Asking, users: list[str], liked: Mapping[str, bool]) -> None:
    for user in users:
        told = server.predict(user=user).json()
        assert server.feedback(told["request_id"], value=liked[told["arm"]]).status_code == 200


CROWD = [f"person {number}" for number in range(300)]


def test_a_challenger_that_does_harm_answers_nobody_any_more(two: Shop, asking: Asked) -> None:
    server = asking(share=0.5)
    for start in range(0, len(CROWD), 10):
        vote(server, CROWD[start : start + 10], {"champion": True, "challenger": False})
        if server.parts.arms.test and server.parts.arms.test.stopped:
            break
    eventually(lambda: bool(server.parts.arms.test and server.parts.arms.test.stopped))
    assert set(arms(server, USERS).values()) == {"champion"}
    assert server.metrics()['cascade_arm_stopped{version="2"}'] == 1
    again = asking(share=0.5)  # it is remembered
    assert set(arms(again, USERS).values()) == {"champion"}
    (test,) = books(two).tests()
    assert "It does harm: it is worse" in test.stopped and test.stopped_at
    assert account(books(two)).test == test
    warned = [line for line in server.log() if line["level"] == "warning"]
    assert any("version 2 answers nobody any more" in line["message"] for line in warned)
    two.publish("challenger")
    again.live.look()
    assert "challenger" in arms(again, USERS).values()


def test_a_challenger_that_is_as_good_goes_on(two: Shop, asking: Asked) -> None:
    server = asking(share=0.5)
    vote(server, CROWD[:80], {"champion": True, "challenger": True})
    test = server.parts.arms.test
    assert test and not test.stopped
    found = account(books(two))
    assert found.counted == found.said == 80 and found.advice.action.value == "wait"


def test_one_person_is_counted_once(two: Shop, asking: Asked) -> None:
    server = asking(share=0.5)
    loud = next(user for user, arm in arms(server, USERS).items() if arm == "challenger")
    vote(server, [loud] * 60, {"champion": True, "challenger": False})
    assert server.parts.arms.test and not server.parts.arms.test.stopped
    assert (account(books(two)).said, account(books(two)).counted) == (60, 1)


def test_what_another_process_was_told_counts_too(two: Shop, asking: Asked) -> None:
    first, second = asking(share=0.5), asking(share=0.5)
    for user in CROWD:
        told = first.predict(user=user).json()
        desk = second if told["arm"] == "champion" else first
        desk.feedback(told["request_id"], value=told["arm"] == "champion")
        if second.parts.arms.test and second.parts.arms.test.stopped:
            break
    eventually(lambda: all(one.parts.arms.test and bool(one.parts.arms.test.stopped) for one in (first, second)))
    assert len([line for line in books(two).tests_file.read_text().splitlines() if '"stopped"' in line]) == 1


def test_a_challenger_that_another_process_stopped_is_stopped_here(two: Shop, asking: Asked) -> None:
    """Although what was said since would no longer stop it."""
    server = asking(share=0.5)
    (test,) = books(two).tests()
    books(two).stop(test, "It did harm.", {})
    eventually(lambda: bool(server.parts.arms.test and server.parts.arms.test.stopped))
    assert set(arms(server, USERS).values()) == {"champion"}


def test_a_full_disk_keeps_nobody_from_rolling_back(two: Shop, asking: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    server = asking(share=0.5)
    two.publish()

    def full(*_: Any, **__: Any) -> None:
        raise JournalError("tests.jsonl cannot be written: No space left on device.")

    monkeypatch.setattr("cascade.production.lines.append", full)
    two.point("champion", "3")
    two.point("challenger", "2")
    server.live.look()
    assert {server.predict(user=user).json()["version"] for user in USERS[:20]} == {"3"}
    assert sum("is not served beside" in line.get("message", "") for line in server.log()) == 1


def test_what_could_not_be_written_can_be_said_again(two: Shop, asking: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    server = asking()
    request = server.predict().json()["request_id"]

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    statuses = [server.feedback(request, value=1).status_code for _ in range(12)]
    assert statuses == [503] * 12
    assert server.predict().status_code == 200  # who asks notices nothing
    monkeypatch.undo()
    assert server.feedback(request, value=1).status_code == 200
    assert [one.value for one in books(two).said()[0]] == [1.0]


def test_a_line_that_nobody_can_send_keeps_back_no_other(two: Shop, asking: Asked) -> None:
    odd: dict[str, Any] = {"request": "b" * 32, "inputs": {}}
    books(two).add([Said("odd", 1.0, "b" * 32, "champion", "1", value=1.0, answered=odd)])
    server = asking()
    server.feedback(server.predict().json()["request_id"], value=1)
    eventually(lambda: len(traces(two)) == 1)


def traces(shop: Shop) -> list[Any]:
    with reaching(shop.uri, "could not be used", ""):
        return reviewed(connect(shop.uri), shop.uri, "qa")


def test_feedback_comes_to_mlflow_as_harvest_reads_it(two: Shop, asking: Asked) -> None:
    server = asking(share=0.5)  # no trace is sampled
    told = server.predict("why?", user="ann").json()
    server.feedback(told["request_id"], value=False, outputs={"answer": "because"})
    eventually((two.settings.home / "production" / "qa" / "mirrored.json").exists)
    (found,) = traces(two)
    assert found.id == f"tr-{told['request_id']}"
    assert (dict(found.inputs), dict(found.outputs)) == ({"question": "why?"}, told["outputs"])
    assert (found.version, found.outcomes, dict(found.corrections)) == (told["version"], (0.0,), {"answer": "because"})


def test_what_was_said_while_mlflow_was_down_comes_later_and_once(two: Shop, asking: Asked) -> None:
    server = asking()
    file, kept = two.folder / "mlflow.db", two.folder / "kept.db"
    file.rename(kept)
    file.write_text("this is no database, and long enough to be seen as such" * 20)
    told = server.predict().json()
    assert server.feedback(told["request_id"], value=1).status_code == 200
    eventually(lambda: "does not take traces" in server.written.getvalue())
    server.close_parts()
    kept.replace(file)
    again = asking()
    eventually((two.settings.home / "production" / "qa" / "mirrored.json").exists)
    again.close_parts()
    (found,) = traces(two)
    assert found.outcomes == (1.0,)
    assert server.written.getvalue().count("does not take traces") == 1


def test_sampled_traces_are_sent_and_never_waited_for(two: Shop, asking: Asked) -> None:
    from mlflow.tracing.client import TracingClient

    server = asking(sampled=0.999999)
    asked = {server.predict(str(number)).json()["request_id"] for number in range(5)}
    server.close_parts()
    with reaching(two.uri, "could not be used", ""):
        found = TracingClient(two.uri).search_traces(filter_string="tags.`cascade.kind` = 'served'", locations=["1"])
    assert {trace.info.tags["cascade.request"] for trace in found} == asked


def test_many_at_once_are_all_recorded(two: Shop, asking: Asked) -> None:
    server = asking(share=0.5)
    requests = [server.predict(user=user).json()["request_id"] for user in USERS]
    statuses: list[int] = []

    def say(some: list[str]) -> None:
        statuses.extend(server.feedback(request, value=1).status_code for request in some)

    people = [threading.Thread(target=say, args=(requests[start::6],)) for start in range(6)]
    for one in people:
        one.start()
    for one in people:
        one.join()
    assert statuses == [200] * len(USERS)
    assert sorted(one.request for one in books(two).said()[0]) == sorted(requests)


def test_the_log_of_tests_is_readable(two: Shop, asking: Asked) -> None:
    asking(share=0.1)
    (line,) = (two.settings.home / "production" / "qa" / "tests.jsonl").read_text().splitlines()
    told = json.loads(line)
    assert {name: told[name] for name in ("event", "champion", "challenger", "share")} == {
        "event": "begun", "champion": "1", "challenger": "2", "share": 0.1,
    }  # fmt: skip
    assert Path(books(two).tests_file).exists()
