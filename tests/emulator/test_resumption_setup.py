"""The setup of a connection that resumes; handles that are dead, and sockets that are still open."""

from dataclasses import replace
from typing import Any

import pytest

from emulator.configuration.setup import Config
from emulator.errors import Refusal
from emulator.mind.conversation import Conversation
from tests.emulator.behaviour import behaviour, patched, without
from tests.emulator.resuming import FIND, TOOLS, TURN, one_turn
from tests.emulator.service import Service, kinds


def _without_handle(config: Config, **options: Any) -> Conversation:
    return Conversation(replace(config, handle=None), **options)


def _with_null_handles(*args: Any) -> Any:
    name, rules = FIND(*args)
    return name, replace(rules, null_handle="unset")


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
