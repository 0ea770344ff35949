"""Handles: when they come, what they restore, whom they are refused to. Without sockets; a few with the SDK."""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from google import genai
from google.genai import errors, types
from google.genai.live import AsyncSession
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from emulator import models
from emulator.api.protocol import Audio, AudioStreamEnd, ClientContent, Content, Event, Text, Video
from emulator.configuration.setup import Config
from emulator.errors import Refusal
from emulator.mind.conversation import Conversation
from emulator.scenarios.scenario import named
from emulator.session.handles import HandleStore, Restored, Snapshot
from emulator.session.resumption import Resumption
from tests.emulator import sdk
from tests.emulator.behaviour import behaviour, patched, without
from tests.emulator.caller import typed
from tests.emulator.conftest import Here
from tests.emulator.patience import in_time
from tests.emulator.service import RATE, Line, Service, kinds
from tests.support.speech import question

NATIVE = "gemini-2.5-flash-native-audio-preview-12-2025"
WEATHER = {"name": "get_weather", "parameters": {"properties": {"city": {"type": "STRING"}}, "required": ["city"]}}
TOOLS = [{"functionDeclarations": [WEATHER]}]
"""Seconds that anything may take over a socket."""
TURN = 20.0
"""Longer than any answer."""
QUIET = bytes(32000)


def one_turn(line: Line, text: str = "hello") -> str:
    """A typed turn and its answer; the handle that came with it."""
    line.ask(text)
    line.later(TURN)
    return line.handles[-1]


def sees(line: Line) -> str:
    """What the model says when asked how many pictures it sees."""
    line.type("what do you see")
    line.later(TURN)
    return line.said()[-1]


# How behaviours are turned off

RESUME, FIND = HandleStore.resume, models.find


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


def _without_handle(config: Config, **options: Any) -> Conversation:
    return Conversation(replace(config, handle=None), **options)


def _opaque(config: Config, *args: Any) -> Resumption:
    return Resumption(replace(config, transparent=False), *args)


def _with_null_handles(*args: Any) -> Any:
    name, rules = FIND(*args)
    return name, replace(rules, null_handle="unset")


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


# The setup of a connection that resumes


@behaviour("10.37", off=patched("emulator.session.handles.Owner.__ne__", lambda self, other: False))
def test_all_but_the_model_may_change() -> None:
    service = Service()
    line = service.dial()
    handle = one_turn(line)
    line.close()
    with pytest.raises(Refusal, match="1008 BidiGenerateContent session not found"):
        service.dial(handle, model="gemini-3.1-flash-live-preview")
    resumed = service.dial(handle, tools=TOOLS, systemInstruction={"parts": [{"text": "x" * 40}]})
    assert kinds(resumed.ask("what is the weather in paris")) == ["toolCall", "turnComplete"]
    used = resumed.messages[-1]["usageMetadata"]["promptTokensDetails"]
    assert {"modality": "TEXT", "tokenCount": 10 + 2 + 7} in used


@behaviour("10.37", off=patched("emulator.session.handles.Owner.__ne__", lambda self, other: False))
@pytest.mark.parametrize(
    "other",
    [
        {"project": "another key"},
        {"backend": "vertex"},
        {"backend": "vertex", "model": "projects/p/locations/l/publishers/google/models/gemini-3.8-live"},
    ],
    ids=["key", "backend", "cloud project"],
)
def test_a_handle_is_good_for_nobody_else(other: dict[str, Any]) -> None:
    service = Service()
    line = service.dial()
    handle = one_turn(line)
    line.close()
    with pytest.raises(Refusal, match="1008 BidiGenerateContent session not found"):
        service.dial(handle, **other)


def test_on_vertex_it_belongs_to_the_project_whatever_the_credential() -> None:
    service = Service()
    model = "projects/p/locations/l/publishers/google/models/gemini-3.8-live"
    line = service.dial(backend="vertex", model=model, project="one bearer token")
    handle = one_turn(line)
    line.close()
    assert service.dial(handle, backend="vertex", model=model, project="the next one").knows.history
    for other in (model.replace("/p/", "/q/"), model.replace("/l/", "/m/")):
        with pytest.raises(Refusal, match="1008"):
            service.dial(handle, backend="vertex", model=other)


@behaviour("13.4", off=patched("emulator.endpoint.admission.Conversation", _without_handle))
def test_history_is_not_seeded_on_top_of_a_handle() -> None:
    seeding = {"historyConfig": {"initialHistoryInClientContent": True}}
    service = Service()
    line = service.dial(**seeding)
    assert line.ask("hello") == []
    line.type(" ")
    line.later(TURN)
    line.close()
    resumed = service.dial(line.handles[-1], **seeding)
    assert resumed.knows.history[0] == ("user", "hello")
    assert kinds(resumed.ask("hello"))[0] == "modelTurn"


@behaviour("2.4.26", off=patched("emulator.configuration.setup.models.find", _with_null_handles))
def test_3_1_refuses_a_handle_that_is_null() -> None:
    with pytest.raises(Refusal, match="1007 Request contains an invalid argument"):
        Service().dial(model="gemini-3.1-flash-live-preview", sessionResumption={"handle": None})


def test_an_empty_handle_and_elsewhere_one_that_is_null_begin_anew() -> None:
    assert kinds(Service().dial("").messages) == ["setupComplete"]
    assert kinds(Service().dial(sessionResumption={"handle": None}).messages) == ["setupComplete"]


@pytest.mark.parametrize("handle", [5, True, {}, ["a"]])
def test_a_handle_of_another_type_is_refused(handle: Any) -> None:
    with pytest.raises(Refusal, match=r"1007 Invalid (value|JSON payload).*at 'setup\.session_resumption"):
        Service().dial(sessionResumption={"handle": handle})


def test_transparency_is_for_vertex() -> None:
    with pytest.raises(Refusal, match=r'1007 Invalid JSON payload received\. Unknown name "transparent"'):
        Service().dial(sessionResumption={"transparent": True})


# Dead handles and open sockets


@behaviour("10.37", "2.4.5", off=without(dead_handle="1008 entity"))
def test_an_unknown_handle_is_not_found(switches: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as caught:
        Service().dial("gone", switches=switches)
    assert (caught.value.code, caught.value.text) == (1008, "BidiGenerateContent session not found")


@behaviour("2.4.5", off=without(dead_handle="1008"))
@pytest.mark.parametrize(
    ("how", "code", "text"),
    [("1008 entity", 1008, "Requested entity was not found."), ("1007", 1007, "Invalid session handle")],
)
def test_or_it_is_told_in_other_words(how: str, code: int, text: str, switches: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as caught:
        Service().dial("gone", switches={"dead_handle": how, **switches})
    assert (caught.value.code, caught.value.text) == (code, text)


@behaviour(
    "10.37", "2.4.5", "clock.scaled", off=patched("emulator.session.handles.Session.dead", lambda self, now: False)
)
def test_handles_die_two_hours_after_their_session_ended() -> None:
    service = Service()
    line = service.dial(switches={"time_scale": 60})
    handle = one_turn(line)
    # While it is open they live as long as it does.
    line.later(500)
    line.close()
    service.now += 119.9
    second = service.dial(handle, switches={"time_scale": 60})
    second.close()
    service.now += 119.9
    third = service.dial(handle, switches={"time_scale": 60})
    third.close()
    service.now += 120
    with pytest.raises(Refusal, match="1008 BidiGenerateContent session not found"):
        service.dial(handle)
    # And give up their room.
    service.dial().ask("stop")
    assert len(service.handles) == 1


@behaviour("10.37", "2.4.6", off=without(open_socket="accepted"))
def test_resuming_while_the_old_socket_is_open_is_refused(switches: dict[str, Any]) -> None:
    service = Service()
    line = service.dial()
    handle = one_turn(line)
    with pytest.raises(Refusal, match="1011 Internal error encountered"):
        service.dial(handle, switches=switches)
    assert line.closed is None
    line.close()
    assert service.dial(handle, switches=switches)


@behaviour("2.4.6", off=without(open_socket="refused"))
def test_or_takes_the_session_over(switches: dict[str, Any]) -> None:
    service = Service()
    line = service.dial()
    handle = one_turn(line)
    resumed = service.dial(handle, switches={"open_socket": "accepted", **switches})
    assert line.closed is not None and (line.closed.code, line.closed.text) == (1008, "The operation was aborted.")
    # The end of the old connection does not end the session.
    line.close()
    with pytest.raises(Refusal, match="1011"):
        service.dial(handle)
    resumed.close()
    assert service.dial(handle)


def test_what_is_taken_over_is_covered_up_to_then() -> None:
    service = Service()
    line = service.dial(switches={"handle_scope": "close"})
    handle = one_turn(line)
    line.show()
    assert service.dial(handle, switches={"open_socket": "accepted"}).knows.pictures == 1


# Transparent resumption (Vertex)


def transparent(service: Service, handle: str | None = None, **switches: Any) -> Line:
    resumption: dict[str, Any] = {"transparent": True}
    if handle is not None:
        resumption["handle"] = handle
    return service.dial(backend="vertex", sessionResumption=resumption, switches=switches)


def indices(line: Line) -> list[str | None]:
    return [update.get("lastConsumedClientMessageIndex") for update in line.updates]


@behaviour("10.38", off=patched("emulator.endpoint.admission.Resumption", _opaque))
def test_updates_tell_the_index_of_the_last_message_they_cover_as_a_string() -> None:
    line = transparent(Service())
    line.show()
    line.show()
    line.ask("stop")
    assert indices(line) == ["2"]
    line.ask("hello")
    line.show()
    line.later(TURN)
    # The picture came while the model spoke: it is covered too.
    assert indices(line) == ["2", "4"]
    assert "lastConsumedClientMessageIndex" not in Service().dial(backend="vertex").ask("stop")[-1]


@behaviour("10.38", off=without(transparent_origin=0, transparent_counts_setup=False))
@pytest.mark.parametrize(
    ("origin", "counts_setup", "index"), [(1, False, "1"), (0, True, "1"), (1, True, "2")], ids=str
)
def test_the_index_can_begin_elsewhere(origin: int, counts_setup: bool, index: str, switches: dict[str, Any]) -> None:
    begin = {"transparent_origin": origin, "transparent_counts_setup": counts_setup, **switches}
    line = transparent(Service(), **begin)
    line.ask("stop")
    assert indices(line) == [index]


def test_a_handle_that_comes_late_has_the_index_of_when_it_was_due() -> None:
    service = Service()
    line = transparent(service, handle_lag="3s")
    line.show()
    line.ask("stop")
    line.send(clientContent=typed("hello", turnComplete=False))
    assert line.handles == []
    line.later(3)
    assert indices(line) == ["1"]
    line.close()
    assert transparent(service, line.handles[0]).knows.history == (("user", "stop"),)


def test_without_a_message_there_is_no_index() -> None:
    line = transparent(Service(), handle_interval="1s")
    line.later(1)
    assert indices(line) == [None] and line.handles
    counted = transparent(Service(), handle_interval="1s", transparent_counts_setup=True)
    counted.later(1)
    assert indices(counted) == ["0"]


def test_each_connection_counts_for_itself() -> None:
    service = Service()
    line = transparent(service)
    for _ in range(3):
        line.ask("stop")
    line.close()
    resumed = transparent(service, line.handles[-1])
    resumed.ask("stop")
    assert indices(resumed) == ["0"]


@behaviour("10.38", off=patched("emulator.hearing.vad.Detector.recall", lambda self, hearing: None))
def test_a_handle_in_the_middle_of_speech_covers_what_was_heard_of_it() -> None:
    service = Service()
    line = transparent(service)
    pcm = question("weather_paris")
    line.ask("hello")
    pieces = [pcm[at : at + 4000] for at in range(0, len(pcm), 4000)] + [QUIET]
    for piece in pieces:
        line.hear(piece)
    # It interrupted the answer, and was complete then up to the message that did so.
    first = int(indices(line)[0] or "")
    line.close()
    resumed = transparent(service, line.handles[0])
    for piece in pieces[first:]:
        resumed.hear(piece)
    assert [listen.pcm for listen in resumed.listening] == [listen.pcm for listen in line.listening]


SOUNDS = {"loud": b"\x00\x40" * 320, "soft": bytes(640)}
"""Frames of 20 ms."""
WORDS = ("hello", "stop", "what do you see")
Act = Event | float | tuple[str, int]
"""What a caller does: it sends something, waits, or sends so many frames of a sound."""


@dataclass
class Play:
    """A client that keeps what it sent until it is covered, as the documentation wants it; and its model's ears."""

    service: Service = field(default_factory=Service)
    sent: list[tuple[float, Event]] = field(default_factory=list)
    """When, and what, on the present connection."""
    line: Line = None  # type: ignore[assignment]
    handle: str | None = None

    def __post_init__(self) -> None:
        self.line = transparent(self.service)

    def do(self, act: Act) -> None:
        if isinstance(act, float):
            self.line.later(act)
        else:
            event = Audio(SOUNDS[act[0]] * act[1], RATE) if isinstance(act, tuple) else act
            self.sent.append((self.service.now, event))
            self.line.take(event)
        while self.line.listening:
            # What is understood depends on what was heard alone.
            self.line.understood(WORDS[len(self.line.listening[0].pcm) // 640 % 3])

    def cut(self) -> set[str]:
        """The connection is lost; another one takes it up from the newest handle and is given the rest, in its pace.

        What was of interest in it.
        """
        covered = 0
        if self.line.updates:
            self.handle = self.line.handles[-1]
            covered = int(indices(self.line)[-1] or "-1") + 1
        lost = self.sent[covered:]
        self.line.close()
        ended = self.service.now
        # As if the time between had not been.
        origin = lost[0][0] if lost else ended
        self.sent, self.line = [], transparent(self.service, self.handle)
        started = self.service.now
        spoke = self.line.admitted.link._mind.snapshot(hearing=True).hearing.speech is not None
        for at, event in lost:
            self.do(max(0.0, started + at - origin - self.service.now))
            self.do(event)
        self.do(max(0.0, started + ended - origin - self.service.now))
        met = {type(event).__name__ for _, event in lost} | ({"resumed"} if self.handle else set())
        return met | ({"in speech"} if spoke else set())


AUDIO = st.tuples(st.sampled_from(["loud", "soft"]), st.integers(1, 40))
TURNS = st.builds(lambda word, end: ClientContent((Content("user", word),), end), st.sampled_from(WORDS), st.booleans())
ACTS = st.one_of(
    AUDIO,
    st.tuples(st.just("loud"), st.integers(5, 20)),
    TURNS,
    st.sampled_from([*map(Text, WORDS), Video(b"\x89PNG\r\n\x1a\n", "image/png"), AudioStreamEnd()]),
    st.floats(0.01, 8.0),
)


@behaviour("10.38", off=patched("emulator.session.resumption.Resumption.apply", lambda self, event, now: []))
def test_replaying_what_an_index_does_not_cover_loses_and_doubles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # What the detector has learnt of background noise is not part of a snapshot: here it goes by loudness alone.
    monkeypatch.setattr("emulator.hearing.vad.webrtcvad", _AnySound)

    met: Counter[str] = Counter()

    @settings(max_examples=60, deadline=None, derandomize=True, phases=[Phase.generate])
    @given(st.lists(st.tuples(ACTS, st.booleans()), min_size=3, max_size=25))
    def holds(acts: list[tuple[Act, bool]]) -> None:
        whole, torn = Play(), Play()
        for act, cut in acts:
            whole.do(act)
            torn.do(act)
            if cut:
                met.update(torn.cut())
        for play in (whole, torn):
            play.do(30.0)
        assert torn.line.knows.context == whole.line.knows.context
        assert torn.line.knows.unanswered == whole.line.knows.unanswered
        assert torn.line.knows.pictures == whole.line.knows.pictures

    holds()
    # It was worth it: all of this was between handle and cut, and some handles were taken in the middle of speech.
    assert min(met[kind] for kind in ("resumed", "in speech", "Audio", "Text", "Video", "ClientContent")) >= 10, met


class _AnySound:
    """In place of the detector's library."""

    class Vad:
        def __init__(self, mode: int) -> None:
            pass

        def is_speech(self, frame: bytes, rate: int) -> bool:
            return True


# With the SDK


async def an_update(live: AsyncSession) -> types.LiveServerSessionResumptionUpdate:
    """The first news about resumption after a turn."""
    await sdk.ask(live)
    async with in_time(in_vain=10.0):
        while True:
            message = await live._receive()
            if message.session_resumption_update:
                return message.session_resumption_update


def connecting(client: genai.Client, **resumption: Any) -> AbstractAsyncContextManager[AsyncSession]:
    config = types.LiveConnectConfig(session_resumption=types.SessionResumptionConfig(**resumption))
    return client.aio.live.connect(model="gemini-3.8-live", config=config)


async def refused(client: genai.Client, **resumption: Any) -> tuple[int, str]:
    with pytest.raises(errors.APIError) as caught:
        async with connecting(client, **resumption):
            pass
    return caught.value.code, str(caught.value)


@behaviour(
    "10.36",
    "10.37",
    "2.4.5",
    "2.4.6",
    off=patched("emulator.endpoint.admission.Admission._ending", lambda *_: lambda now: None),
)
@pytest.mark.asyncio(loop_scope="module")
async def test_the_sdk_resumes_by_its_handle_once_the_old_socket_is_closed(here: Here) -> None:
    client = sdk.client(here)
    async with connecting(client) as live:
        update = await an_update(live)
        handle = update.new_handle
        assert handle and update.resumable and update.last_consumed_client_message_index is None
        code, text = await refused(client, handle=handle)
        assert code == 1011 and text.endswith("Internal error encountered.")
    async with connecting(client, handle=handle) as live:
        assert (await an_update(live)).new_handle not in (None, handle)
    code, text = await refused(client, handle="gone")
    assert code == 1008 and text.endswith("BidiGenerateContent session not found")


@behaviour("10.38", off=patched("emulator.endpoint.admission.Resumption", _opaque))
@pytest.mark.asyncio(loop_scope="module")
async def test_the_sdk_reads_the_index_on_vertex(here: Here) -> None:
    async with connecting(sdk.client(here, vertex=True), transparent=True) as live:
        update = await an_update(live)
    assert update.last_consumed_client_message_index == 0


@behaviour("2.4.6", off=without(open_socket="refused"))
@pytest.mark.asyncio(loop_scope="module")
async def test_the_sdk_sees_its_old_socket_closed_where_resuming_takes_over(
    here: Here, switches: dict[str, Any]
) -> None:
    client = sdk.client(here, **{"open_socket": "accepted"} | switches)
    async with connecting(client) as old:
        handle = (await an_update(old)).new_handle
        async with connecting(client, handle=handle) as new:
            async with in_time(in_vain=10.0):
                with pytest.raises(errors.APIError) as caught:
                    while True:
                        await old._receive()
            assert caught.value.code == 1008
            assert (await an_update(new)).new_handle
