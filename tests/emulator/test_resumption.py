"""Resumption handles: when they come, and what they restore."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from emulator.scenarios.scenario import named
from emulator.session.handles import HandleStore, Restored, Snapshot
from emulator.session.resumption import Resumption
from tests.emulator.behaviour import behaviour, patched, without
from tests.emulator.caller import typed
from tests.emulator.resuming import QUIET, RESUME, TOOLS, TURN, one_turn
from tests.emulator.service import Line, Service, kinds
from tests.support.speech import question

NATIVE = "gemini-2.5-flash-native-audio-preview-12-2025"


def sees(line: Line) -> str:
    """What the model says when asked how many pictures it sees."""
    line.type("what do you see")
    line.later(TURN)
    return line.said()[-1]


def _restoring(what: Callable[[HandleStore], Snapshot]) -> Any:
    """Every handle restores the same."""

    def resume(store: HandleStore, *args: Any, **options: Any) -> Restored:
        restored = RESUME(store, *args, **options)
        return replace(restored, snapshot=replace(what(store), position=restored.snapshot.position))

    return resume


def _newest(store: HandleStore) -> Snapshot:
    return max((entry.own for entry in store._entries.values()), key=lambda snapshot: len(snapshot.context))


def _taking_what_is_heard(part: Resumption, _snapshot: Snapshot, now: float) -> Any:
    return part._send(part._mind.snapshot(hearing=True), part._consumed, now)


# When they come


@behaviour("10.36", off=without(handles="withheld"))
def test_a_handle_follows_the_end_of_every_turn(switches: dict[str, Any]) -> None:
    line = Service().dial(switches=switches)
    assert kinds(line.messages) == ["setupComplete"]
    assert "handle" not in kinds(line.ask("hello"))
    assert kinds(line.later(TURN))[-2:] == ["turnComplete", "handle"]
    assert kinds(line.ask("hello") + line.ask("stop"))[-3:] == ["handle", "turnComplete", "handle"]
    assert len(set(line.handles)) == 3 and all(update["resumable"] for update in line.updates)


def test_none_comes_where_the_setup_does_not_ask() -> None:
    service = Service()
    line = service.dial(sessionResumption=None)
    line.ask("hello")
    line.later(TURN)
    assert line.updates == [] and len(service.handles) == 0


@behaviour("10.36", off=without(handle_interval="0s"))
def test_they_can_also_come_at_an_interval_while_nothing_is_under_way(switches: dict[str, Any]) -> None:
    service = Service()
    line = service.dial(switches={"handle_interval": "10m", "time_scale": 60, **switches})
    assert kinds(line.later(9.9)) == []
    assert kinds(line.later(0.1)) == ["handle"]
    line.show()
    line.later(9)
    line.ask("hello")
    # The answer is being played: none at the twentieth second.
    assert kinds(line.later(5)) == ["modelTurn", "generationComplete"]
    assert kinds(line.later(10)) == ["turnComplete", "handle", "handle"]
    line.close()
    assert service.dial(line.handles[0]).knows.pictures == 0


@behaviour("13.21", "10.36", off=patched("emulator.tools.pending.Pending.__len__", lambda self: 0))
def test_none_comes_while_a_call_runs() -> None:
    line = Service().dial(tools=TOOLS, switches={"handle_interval": "1s"})
    # A call that does not block completes its turn, and goes on running.
    assert kinds(line.ask("what is the weather in paris")) == ["toolCall", "turnComplete"]
    assert kinds(line.later(5)) == []
    (call,) = line.messages[1]["toolCall"]["functionCalls"]
    outcome = {"id": call["id"], "name": call["name"], "response": {"weather": "sunny", "temperature": 21}}
    line.send(toolResponse={"functionResponses": [outcome]})
    assert "handle" in kinds(line.later(TURN))


@behaviour("13.21", off=patched("emulator.session.resumption._refuses_when", lambda config: frozenset()))
def test_2_5_says_that_it_is_not_resumable_when_it_takes_up_a_typed_turn() -> None:
    line = Service().dial(model=NATIVE)
    assert kinds(line.ask("hello"))[0] == "not resumable"
    assert line.updates == [{"resumable": False}]
    assert kinds(line.later(TURN))[-2:] == ["turnComplete", "handle"]
    # Not for what is spoken or typed in real time.
    assert "not resumable" not in kinds(line.type("hello"))


def test_3_8_never_does() -> None:
    line = Service().dial()
    line.ask("hello")
    line.later(TURN)
    assert all("newHandle" in update for update in line.updates)


@behaviour("10.36", off=without(not_resumable="never"))
def test_as_documented_it_is_not_resumable_while_it_generates_or_calls(switches: dict[str, Any]) -> None:
    line = Service().dial(tools=TOOLS, switches={"not_resumable": "busy", **switches})
    assert kinds(line.type("hello"))[0] == "not resumable"
    assert kinds(line.later(TURN))[-1] == "handle"
    # Told once, though the call begins after the turn.
    assert kinds(line.ask("what is the weather in paris")) == ["not resumable", "toolCall", "turnComplete"]
    assert Service().dial(model=NATIVE, switches={"not_resumable": "never"}).ask("hello")[0].get("serverContent")


@behaviour("2.4.10", "handle.lag", off=without(handle_lag="0s"))
def test_a_handle_can_come_late_and_stands_for_when_it_should_have_come(switches: dict[str, Any]) -> None:
    service = Service()
    line = service.dial(switches={"handle_lag": "3s", **switches})
    line.ask("stop")
    assert line.handles == []
    line.show()
    assert kinds(line.later(2.9)) == []
    assert kinds(line.later(0.1)) == ["handle"]
    line.close()
    assert service.dial(line.handles[0]).knows.pictures == 0


def test_as_many_late_handles_as_a_connection_may_have_under_way_are_kept() -> None:
    line = Service().dial(switches={"handle_lag": "1h"})
    for _ in range(100):
        line.ask("stop")
    line.later(3600)
    assert len(line.handles) == 64


@behaviour("handle.lost", off=without(lost_handles=""))
def test_handles_can_be_lost_on_their_way(switches: dict[str, Any]) -> None:
    service = Service()
    line = service.dial(switches={"lost_handles": "2,3", **switches})
    for _ in range(4):
        line.show()
        line.ask("stop")
    assert len(line.handles) == 2
    line.close()
    first = service.dial(line.handles[0])
    assert first.knows.pictures == 1
    first.close()
    assert service.dial(line.handles[1]).knows.pictures == 4


def test_the_echo_has_handles_too() -> None:
    service = Service()
    line = service.dial(scenario=named("echo"))
    assert kinds(line.type("hello")) == kinds(line.ask("hello")) == ["turnComplete", "handle"]
    line.close()
    assert kinds(service.dial(line.handles[-1], scenario=named("echo")).messages) == ["setupComplete"]


# What they restore


@behaviour("10.37", off=patched("emulator.session.handles.HandleStore.resume", _restoring(lambda store: Snapshot())))
def test_a_handle_restores_what_the_model_knew_and_counts_no_resumes() -> None:
    service = Service()
    line = service.dial()
    line.show()
    handle = one_turn(line)
    for number in range(5):
        line.close()
        line = service.dial(handle)
        assert line.knows.history == (("user", "hello"), ("model", "hello how can i help you")) + (
            (("user", "what do you see"), ("model", "i see one pictures")) * number
        )
        assert sees(line) == "i see one pictures"
        handle = line.handles[-1]


@behaviour("10.37", "2.4.10", off=patched("emulator.session.handles.HandleStore.resume", _restoring(_newest)))
def test_an_older_handle_still_restores_its_own_snapshot() -> None:
    service = Service()
    line = service.dial()
    handles = []
    for _ in range(3):
        line.show()
        handles.append(one_turn(line, "stop"))
    line.close()
    for pictures, handle in reversed(list(enumerate(handles, start=1))):
        resumed = service.dial(handle)
        assert resumed.knows.pictures == pictures
        resumed.close()


def test_an_older_handle_knows_of_no_call_that_was_made_after_it() -> None:
    service = Service()
    line = service.dial()
    older, newer = one_turn(line, "stop"), one_turn(line, "stop")
    line.admitted.session.calls.unanswered["call_1"] = "get_weather"
    line.close()
    resumed = service.dial(newer)
    assert resumed.admitted.session.calls.unanswered
    resumed.close()
    resumed = service.dial(older)
    assert not resumed.admitted.session.calls.unanswered
    resumed.close()


@behaviour("10.37", "2.4.10", "handle.scope", off=without(handle_scope="close"))
def test_what_came_after_the_handle_is_lost(switches: dict[str, Any]) -> None:
    service = Service()
    line = service.dial(switches=switches)
    line.show()
    one_turn(line)
    line.show()
    line.send(clientContent=typed("what is the weather in paris", turnComplete=False))
    line.hear(question("weather_paris")[:32000])
    line.close()
    resumed = service.dial(line.handles[-1])
    assert resumed.knows.unanswered == ()
    assert resumed.knows.pictures == 1
    assert resumed.listening == [] and resumed.hear(QUIET) == []
    assert sees(resumed) == "i see one pictures"


@behaviour(
    "2.4.10", "handle.partial", off=patched("emulator.session.resumption.Resumption._take", _taking_what_is_heard)
)
def test_a_handle_at_an_interruption_leaves_out_the_utterance_that_interrupted() -> None:
    service = Service()
    line = service.dial()
    line.ask("hello")
    pcm = question("weather_paris")
    assert "handle" in kinds(line.hear(pcm[:32000]))
    line.close()
    # The client gives it again from its beginning, and it is understood as one, as if it were said for the first time.
    resumed, fresh = service.dial(line.handles[-1]), Service().dial()
    for one in (resumed, fresh):
        one.hear(pcm)
        one.hear(QUIET)
    assert [listen.pcm for listen in resumed.listening] == [listen.pcm for listen in fresh.listening]
    assert len(fresh.listening) == 1


@behaviour("13.21", "handle.scope", off=without(handle_scope="issue"))
def test_3_8_resumes_with_a_typed_turn_that_it_had_taken_up(switches: dict[str, Any]) -> None:
    service = Service()
    line = service.dial(switches=switches)
    handle = one_turn(line)
    line.ask("what do you see")
    line.close()
    resumed = service.dial(handle)
    assert resumed.knows.unanswered == ("what do you see",)
    resumed.send(clientContent={"turnComplete": True})
    assert resumed.later(TURN) and resumed.said() == ["i see zero pictures"]
    # Once there is a newer handle, the old one stands for its own time again.
    resumed.close()
    again = service.dial(handle)
    assert again.knows.history == (("user", "hello"), ("model", "hello how can i help you"))


@behaviour("13.21", "handle.scope", off=without(handle_scope="issue"))
def test_also_where_the_turn_was_over_at_once_with_a_call(switches: dict[str, Any]) -> None:
    service = Service()
    line = service.dial(tools=TOOLS, switches=switches)
    handle = one_turn(line)
    assert kinds(line.ask("what is the weather in paris")) == ["toolCall", "turnComplete"]
    line.close()
    assert service.dial(handle, tools=TOOLS).knows.unanswered == ("what is the weather in paris",)


def test_2_5_does_not() -> None:
    service = Service()
    line = service.dial(model=NATIVE)
    handle = one_turn(line)
    line.ask("what do you see")
    line.close()
    assert service.dial(handle, model=NATIVE).knows.unanswered == ()


def covering(line: Callable[[Line], Any], **switches: Any) -> Line:
    """A connection resumed by a handle that covers ``line``'s later input."""
    service = Service()
    first = service.dial(switches={"handle_scope": "close", **switches})
    handle = one_turn(first)
    line(first)
    first.close()
    return service.dial(handle, switches={"handle_scope": "close", **switches})


@behaviour("handle.scope", off=without(handle_scope="issue"))
def test_or_the_newest_handle_covers_it(switches: dict[str, Any]) -> None:
    resumed = covering(
        lambda line: (line.show(), line.send(clientContent=typed("hello", turnComplete=False))), **switches
    )
    assert resumed.knows.pictures == 1
    assert resumed.knows.unanswered == ("hello",)
    # It waits for the client to ask, and is answered once.
    assert resumed.later(TURN) == []
    resumed.send(clientContent={"turnComplete": True})
    resumed.later(TURN)
    assert resumed.said() == ["hello how can i help you"]


@behaviour("handle.scope", off=without(handle_scope="issue"))
def test_an_answer_that_was_cut_off_can_be_asked_for_again(switches: dict[str, Any]) -> None:
    resumed = covering(lambda line: (line.ask("hello"), line.later(1.5)), generation_speed=1, **switches)
    # What had been said of it is remembered as said.
    assert resumed.knows.history[-2:] == (("user", "hello"), ("model", "hello how"))
    assert resumed.knows.unanswered == ("hello",)
    resumed.send(clientContent={"turnComplete": True})
    assert resumed.messages[-1]["serverContent"]["modelTurn"]


@behaviour("handle.scope", off=patched("emulator.hearing.vad.Detector.recall", lambda self, hearing: None))
def test_speech_that_was_under_way_goes_on_on_the_new_connection() -> None:
    pcm = question("weather_paris")
    resumed = covering(lambda line: line.hear(pcm[:20000]))
    resumed.hear(pcm[20000:])
    resumed.hear(QUIET)
    (whole,) = resumed.listening
    # All of it: what both connections heard.
    assert pcm[8000:40000] in whole.pcm
    assert resumed.admitted.record.facts.restored.hearing


@behaviour("handle.scope", off=patched("emulator.hearing.listening.Listener.recall", lambda self, hearing: None))
def test_so_does_speech_between_the_callers_own_marks() -> None:
    detection = {"automaticActivityDetection": {"disabled": True}}
    service = Service()
    options: dict[str, Any] = {"switches": {"handle_scope": "close"}, "realtimeInputConfig": detection}
    first = service.dial(**options)
    handle = one_turn(first)
    first.send(realtimeInput={"activityStart": {}})
    first.hear(b"ab" * 100)
    first.close()
    # A connection that goes by detection knows nothing of marks.
    other = service.dial(handle)
    assert other.hear(QUIET) == [] and other.listening == []
    other.close()
    resumed = service.dial(handle, **options)
    resumed.hear(b"cd" * 100)
    resumed.send(realtimeInput={"activityEnd": {}})
    assert [listen.pcm for listen in resumed.listening] == [b"ab" * 100 + b"cd" * 100]


@behaviour("handle.scope", off=patched("emulator.hearing.utterances.Utterances.waiting", lambda self: ()))
def test_speech_that_was_over_and_not_understood_is_understood_then() -> None:
    def spoke(line: Line) -> None:
        line.hear(question("weather_paris"))
        line.hear(QUIET)
        assert len(line.listening) == 1

    resumed = covering(spoke)
    assert resumed.understood("hello") == []
    assert resumed.knows.unanswered == ("hello",)
    resumed.type(" ")
    assert resumed.messages[-1]["serverContent"]


def test_the_handle_before_the_newest_covers_nothing() -> None:
    service = Service()
    line = service.dial(switches={"handle_scope": "close"})
    older = one_turn(line)
    line.show()
    newest = one_turn(line)
    line.show()
    line.close()
    resumed = service.dial(older, switches={"handle_scope": "close"})
    assert resumed.knows.pictures == 0
    # On this connection it is the newest.
    resumed.show()
    resumed.close()
    for handle, pictures in ((older, 1), (newest, 2)):
        again = service.dial(handle)
        assert again.knows.pictures == pictures
        again.close()


def test_a_question_that_waits_for_its_turn_is_restored_as_unanswered() -> None:
    service = Service()
    line = service.dial(model=NATIVE)
    line.ask("hello")
    # 2.5 finishes first.
    line.ask("stop")
    line.later(TURN)
    line.close()
    resumed = service.dial(line.handles[0], model=NATIVE)
    assert resumed.knows.unanswered == ("stop",)
