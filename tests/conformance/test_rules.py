"""The rules and the parts of scripts, without a socket: events in, verdict out."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from parley.conformance.caller import MAX_EVENTS, Caller
from parley.conformance.command import arguments, report_in
from parley.conformance.outcome import Outcome, chosen
from parley.conformance.scene import SESSION, TOKEN, Scene
from parley.conformance.steps import (
    Action,
    Answer,
    Called,
    Done,
    Event,
    Exited,
    Finish,
    HalfClosed,
    Left,
    Nothing,
    Received,
    Reported,
    Send,
    Status,
    Steps,
    Unreadable,
    Violation,
    Wait,
)
from parley.v1 import errors_pb2
from parley.v1 import live_pb2 as pb

OPEN = pb.ConverseRequest(open=pb.Open(request_id="one", profile="plain"))
SECOND = 32_000
"""Bytes of audio."""


def text(seq: int, words: str = "hello") -> pb.ConverseRequest:
    return pb.ConverseRequest(seq=seq, text=pb.TextInput(text=words))


def audio(seq: int, *sizes: int) -> pb.ConverseRequest:
    return pb.ConverseRequest(seq=seq, audio=pb.AudioInput(frames=[bytes(size) for size in sizes]))


def ack(seq: int, number: int = 0) -> pb.ConverseRequest:
    return pb.ConverseRequest(seq=number, ack=pb.Ack(seq=seq))


def caller(*requests: pb.ConverseRequest, sent: int = 0, metadata: dict[str, str] | None = None) -> Caller:
    """A client that sent these on its first stream, one a second."""
    seen = Caller(sent_seq=sent)
    seen.observe(Called(0, 1, "a", metadata or {}))
    for at, request in enumerate(requests):
        seen.observe(Received(at, 1, request))
    return seen


def opening(**fields: object) -> pb.ConverseRequest:
    return pb.ConverseRequest(open=pb.Open(**fields))  # type: ignore[arg-type]


END = pb.ConverseRequest(seq=1, end=pb.End())


@pytest.mark.parametrize(
    ("requests", "verdict"),
    [
        ([text(1)], "the first message of a stream must be `open`, not `text`"),
        ([pb.ConverseRequest()], "must be `open`, not `None`"),
        ([OPEN, OPEN], "`open` a second time"),
        ([OPEN, pb.ConverseRequest(seq=1)], "without payload"),
        ([pb.ConverseRequest(seq=1, open=OPEN.open)], "`open` must carry seq 0, not 1"),
        ([opening(request_id="a b", profile="plain")], "`open.request_id` must match"),
        ([opening(profile="plain")], "`open.request_id` must match"),
        ([opening(request_id="one")], "neither `profile` nor `config`"),
        ([opening(resume=pb.Resume(session_id="s"), profile="plain")], "`profile` beside `resume`"),
        ([opening(request_id="one", profile="plain", traceparent="00-1")], "no W3C trace context"),
        ([OPEN, text(2)], "seq 2; expected 1"),
        ([OPEN, text(0)], "seq 0; expected 1"),
        ([OPEN, text(1), text(1)], "seq 1; expected 2"),
        ([OPEN, ack(1)], "acked 1, but the newest message is 0"),
        ([OPEN, ack(0, 1)], "`ack` must carry seq 0, not 1"),
        ([OPEN, END, text(2)], "sent `text` after `end`"),
        ([OPEN, audio(1)], "whole 16 bit samples"),
        ([OPEN, audio(1, 0)], "whole 16 bit samples"),
        ([OPEN, audio(1, 640, 641)], "whole 16 bit samples"),
        ([OPEN, audio(1, SECOND, 2)], "at most 1 s"),
        ([OPEN, audio(1, SECOND), audio(2, SECOND), audio(3, SECOND)], None),  # one second a second
    ],
)
def test_what_a_client_sends_is_held_to_the_rules(requests: list[pb.ConverseRequest], verdict: str | None) -> None:
    if verdict is None:
        caller(*requests)
        return
    with pytest.raises(Violation) as caught:
        caller(*requests)
    assert verdict in str(caught.value)


def test_a_trace_context_in_the_metadata_must_be_one() -> None:
    caller(OPEN, metadata={"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"})
    with pytest.raises(Violation, match="trace context"):
        caller(OPEN, metadata={"traceparent": "no"})


def test_bytes_that_are_no_message_are_a_violation() -> None:
    with pytest.raises(Violation, match=r"no parley\.v1\.ConverseRequest"):
        caller(OPEN).observe(Unreadable(1, 1))


def test_audio_may_be_a_little_ahead_but_not_more() -> None:
    seen = caller(OPEN)
    for seq in range(1, 3):
        seen.observe(Received(5, 1, audio(seq, SECOND * 3 // 4)))
    with pytest.raises(Violation, match="faster than real time"):
        seen.observe(Received(5, 1, audio(3, 2)))


def test_the_rate_of_the_session_is_the_one_that_counts() -> None:
    fast = pb.SessionConfig(model="m", input_sample_rate_hertz=48_000)
    caller(opening(request_id="one", config=fast), audio(1, 96_000))
    with pytest.raises(Violation, match="at most 1 s"):
        caller(opening(request_id="one", config=fast), audio(1, 96_002))


def test_a_client_that_never_stops_is_stopped() -> None:
    seen = caller(OPEN)
    with pytest.raises(Violation, match="more than 20000 times"):
        for _ in range(MAX_EVENTS):
            seen.observe(Reported(1, "played", 1))


def test_what_was_said_is_remembered() -> None:
    seen = caller(OPEN, text(1), audio(2, 640), ack(3), ack(2), pb.ConverseRequest(seq=3, end=pb.End()), sent=3)
    assert (seen.next_seq, seen.acked, seen.asked_at, seen.spoke_at) == (4, 3, 1, 2)
    assert seen.calls[1].end
    for event in (HalfClosed(9, 1), Left(9, 1), Exited(9, 3), Reported(9, "played", 1)):
        seen.observe(event)
    assert (seen.calls[1].half_closed, seen.calls[1].left, seen.exit) == (True, True, 3)
    assert [report.seq for report in seen.reports] == [1]


@pytest.mark.parametrize(("turn", "asks"), [(pb.TurnInput(), False), (pb.TurnInput(turn_complete=True), True)])
def test_a_turn_asks_when_it_is_complete(turn: pb.TurnInput, asks: bool) -> None:
    assert (caller(OPEN, pb.ConverseRequest(seq=1, turn=turn)).asked_at is not None) is asks


def resumed(*again: pb.ConverseRequest, next_seq: int) -> Caller:
    """Three messages, a lost stream, and what the client sends then."""
    seen = caller(OPEN, text(1, "a"), audio(2, SECOND), text(3, "c"))
    seen.observe(Called(3, 2, "b", {}))
    resume = pb.Resume(session_id=SESSION, resume_token=TOKEN)
    seen.observe(Received(3, 2, pb.ConverseRequest(open=pb.Open(resume=resume))))
    assert seen.calls[2].resume == resume
    seen.attached(seen.calls[2], next_seq, existing=True)
    for request in again:
        seen.observe(Received(3, 2, request))
    return seen


def test_after_a_resume_it_goes_on_from_next_uplink_seq() -> None:
    assert resumed(audio(2, SECOND), text(3, "c"), text(4), next_seq=2).next_seq == 5
    assert resumed(text(4), next_seq=4).next_seq == 5


def test_what_the_session_has_may_come_again_in_order_until_something_new_comes() -> None:
    assert resumed(audio(2, SECOND), text(3, "c"), text(4), next_seq=4).next_seq == 5
    assert resumed(audio(2, SECOND), text(4), next_seq=4).next_seq == 5
    for again in ([text(1, "a"), text(3, "c")], [text(4), text(3, "c")]):
        with pytest.raises(Violation, match="seq 3; expected"):
            resumed(*again, next_seq=4)


def test_what_comes_again_must_be_the_same() -> None:
    for next_seq in (1, 4):
        with pytest.raises(Violation, match="message 1 again with another content"):
            resumed(text(1, "b"), next_seq=next_seq)


def test_audio_that_comes_again_is_not_too_fast() -> None:
    resumed(text(1, "a"), audio(2, SECOND), text(3, "c"), audio(4, SECOND), next_seq=1)


# Parts of scripts


def play(steps: Steps[object], events: Iterable[Event]) -> tuple[list[Action], object]:
    """Run a script on events, each at its time."""
    waiting = list(events)
    now, did = 0.0, []
    try:
        action = next(steps)
        while True:
            answer: Answer
            if not isinstance(action, Wait):
                did.append(action)
                answer = Done(now)
            elif waiting and waiting[0].at <= now + action.seconds:
                answer = waiting.pop(0)
                now = max(now, answer.at)
            else:
                now += action.seconds
                answer = Nothing(now)
            action = steps.send(answer)
    except StopIteration as stop:
        return did, stop.value


def stream(number: int, *requests: pb.ConverseRequest, at: float = 0, connection: str = "a") -> list[Event]:
    return [Called(at, number, connection, {}), *(Received(at, number, request) for request in requests)]


def test_a_script_waits_as_long_as_its_patience() -> None:
    with pytest.raises(Violation, match="waited 5 s for the client's `open`"):
        play(Scene(5).call(), [])
    with pytest.raises(Violation, match="ended with status 2 before the client's `open`"):
        play(Scene(5).call(), [Exited(1, 2)])


def test_messages_that_are_read_after_the_process_has_ended_still_count() -> None:
    _, call = play(Scene(5).call(), [Exited(1, 0), *stream(1, OPEN, at=1.2)])
    assert call.number == 1  # type: ignore[attr-defined]


def test_a_spoken_question_is_over_when_it_is_quiet_or_has_lasted_long() -> None:
    quiet, endless = Scene(5), Scene(5)
    play(quiet.open(), [*stream(1, OPEN, audio(1, 640)), Received(0.1, 1, audio(2, 640))])
    assert quiet.now == pytest.approx(0.5)
    frames = [Received(n / 5, 1, audio(n, 640)) for n in range(1, 100)]
    play(endless.open(), [*stream(1, OPEN), *frames])
    assert 3 < endless.now < 4


def test_a_first_stream_that_resumes_is_a_violation() -> None:
    resume = pb.ConverseRequest(open=pb.Open(resume=pb.Resume(session_id=SESSION, resume_token=TOKEN)))
    with pytest.raises(Violation, match="although there is no session"):
        play(Scene(5).new_call(), stream(1, resume))


def back(after: int = 0, session: str = SESSION, token: str = TOKEN) -> pb.ConverseRequest:
    resume = pb.Resume(session_id=session, resume_token=token, last_received_seq=after)
    return pb.ConverseRequest(open=pb.Open(resume=resume))


def lost(request: pb.ConverseRequest, at: float = 1) -> Steps[object]:
    """A stream that is lost with three messages sent and one acked; the client comes back with `request`."""
    scene = Scene(5)
    call = yield from scene.open()
    for _ in range(3):
        yield from scene.say(call, text=pb.TextOutput(text="x"))
    yield from scene.acked(call, 1)
    again = yield from scene.lose(call, Status("UNAVAILABLE", "GATEWAY_DRAINING", 0.5))
    yield from scene.resumed(again, next_seq=2)
    return None


@pytest.mark.parametrize(
    ("request_", "at", "verdict"),
    [
        (back(3), 1, None),
        (back(1), 1, None),
        (back(0), 1, "`last_received_seq` is 0; it acked 1"),
        (back(4), 1, "the newest message is 3"),
        (back(3), 0.4, "called again after 0.400 s; RetryInfo said 0.5 s"),
        (back(3, session="ses_x"), 1, "wants to resume 'ses_x'"),
        (back(3, token="x"), 1, "another `resume_token`"),
        (OPEN, 1, "opened a session anew"),
    ],
)
def test_a_resume_is_held_to_what_the_session_knows(
    request_: pb.ConverseRequest, at: float, verdict: str | None
) -> None:
    events = [*stream(1, OPEN, text(1)), Received(0, 1, ack(1)), *stream(2, request_, at=at)]
    if verdict is not None:
        with pytest.raises(Violation) as caught:
            play(lost(request_), events)
        assert verdict in str(caught.value)
        return
    did, _ = play(lost(request_), events)
    sent = [pb.ConverseResponse.FromString(action.response) for action in did if isinstance(action, Send)]
    after = request_.open.resume.last_received_seq
    assert [response.seq for response in sent] == [0, 1, 2, 3, 0, *range(after + 1, 4)]
    assert sent[4].opened.next_uplink_seq == 2
    assert sent[4].opened.existing


@pytest.mark.parametrize(
    ("well", "status", "verdict"),
    [
        (True, 0, None),
        (True, 1, "status 1, although the conversation went well"),
        (False, 1, None),
        (False, 0, "status 0, although the conversation failed"),
        (None, 0, None),
        (None, 1, None),
    ],
)
def test_the_exit_status_must_fit(well: bool | None, status: int, verdict: str | None) -> None:
    steps = Scene(5).exits(well=well)
    if verdict is None:
        play(steps, [Exited(1, status)])
        return
    with pytest.raises(Violation) as caught:
        play(steps, [Exited(1, status)])
    assert verdict in str(caught.value)


def test_audio_goes_out_as_far_as_it_is_acked() -> None:
    scene = Scene(5)

    def script() -> Steps[object]:
        call = yield from scene.open()
        yield from scene.speak(call, 6)

    events = stream(1, OPEN, text(1))
    with pytest.raises(Violation, match=r"an ack: 0\.4 s of audio lie beyond the last one"):
        play(script(), events)
    assert scene.caller.sent_seq == 4
    scene = Scene(5)
    did, _ = play(script(), [*events, Received(1, 1, ack(0)), Received(2, 1, ack(4))])
    assert len(did) == 1 + 6
    assert not any(isinstance(action, Finish) for action in did)


# Around them


def test_a_status_carries_its_details() -> None:
    details = errors_pb2.StatusDetails.FromString(Status("UNAVAILABLE", "NO_WORKER", 1.5).details()).details
    assert errors_pb2.ErrorInfoDetail.FromString(details[0].value).reason == "NO_WORKER"
    delay = errors_pb2.RetryInfoDetail.FromString(details[1].value).retry_delay
    assert (delay.seconds, delay.nanos) == (1, 500_000_000)
    assert Status("UNAVAILABLE").details() == b""
    assert [str(Status()), str(Status("ABORTED", "SUPERSEDED"))] == ["OK", "ABORTED (SUPERSEDED)"]


def test_the_command_is_split_like_a_shell_does_and_told_the_address() -> None:
    assert arguments("node 'my caller.js' --target={target}", "a:1") == ["node", "my caller.js", "--target=a:1"]
    for wrong in ("", "  ", "node 'x"):
        with pytest.raises(ValueError, match=r"empty|quotation"):
            arguments(wrong, "a:1")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"[1]",
        b"1",
        b'{"event": "opened", "seq": 1}',
        b'{"event": "played"}',
        b'{"event": ["played"]}',
        b"[" * 60_000,
    ],
)
def test_what_is_no_report_is_passed_over(line: bytes) -> None:
    assert report_in(line, 0) is None


def test_a_report_is_read() -> None:
    assert report_in(b'{"event": "played", "seq": 7, "more": 1}\n', 2) == Reported(2, "played", 7)


def test_checks_are_chosen_by_name() -> None:
    checks = {"a": 1, "b": 2}
    assert chosen(checks, []) == [1, 2]
    assert chosen(checks, ["b"]) == [2]
    with pytest.raises(KeyError, match="c"):
        chosen(checks, ["b", "c"])


def test_an_outcome_is_one_line() -> None:
    assert Outcome("acks", True, "", 1).line() == "PASS acks"
    failed = Outcome("acks", False, "no ack", 1.23456, ("trace",))
    assert failed.line() == "FAIL acks: no ack"
    assert failed.document() == {
        "name": "acks",
        "passed": False,
        "detail": "no ack",
        "seconds": 1.235,
        "stderr": ["trace"],
    }
