"""What a client is held to: one script a check. Plain code, see `scene` for the parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from parley.conformance.caller import Call
from parley.conformance.scene import Scene
from parley.conformance.steps import Status, Steps, Violation
from parley.v1 import live_pb2 as pb

DRAIN: Final = 1.0
"""Seconds that the draining gateway leaves."""
SHORT_WINDOW: Final = 1.0
"""Resume window, in seconds, of the check in which nobody can be reached any more."""
WINDOW_SLACK: Final = 3.0
GOING: Final = Status("UNAVAILABLE", "GATEWAY_DRAINING", 0.3)
UNKNOWN_PAYLOAD: Final = b"\xe2\x3e\x03\x0a\x01x"
"""Field 1004 of `ConverseResponse`, a message; no release has it."""
UNKNOWN_ENUM: Final = 99


@dataclass(frozen=True, slots=True)
class ClientCheck:
    """One thing that a client must get right."""

    name: str
    what: str
    """What it must do, in a sentence."""
    script: Callable[[Scene], Steps[None]]


CLIENT_CHECKS: Final[dict[str, ClientCheck]] = {}


def _check(name: str) -> Callable[[Callable[[Scene], Steps[None]]], Callable[[Scene], Steps[None]]]:
    """Makes a check of a script; what it asks for is its docstring."""

    def register(script: Callable[[Scene], Steps[None]]) -> Callable[[Scene], Steps[None]]:
        CLIENT_CHECKS[name] = ClientCheck(name, (script.__doc__ or "").strip().rstrip("."), script)
        return script

    return register


# One stream


@_check("conversation")
def conversation(scene: Scene) -> Steps[None]:
    """`open` first, numbers from 1 without holes, one answer, `end` or a half-close, exit status 0."""
    call = yield from scene.open()
    yield from scene.answer(call)
    yield from scene.part(call)
    scene.notes.append(f"{len(scene.caller.uplink)} numbered messages")


@_check("real-time")
def real_time(scene: Scene) -> Steps[None]:
    """Speech is sent about as fast as it is spoken, at most 1 s in a message."""
    yield from conversation(scene)
    if scene.caller.spoke_at is None:
        scene.notes[:] = ["typed: there was no speech to measure"]


@_check("acks")
def acks(scene: Scene) -> Steps[None]:
    """What was received is acked, soon enough for audio to go on."""
    call = yield from scene.open()
    yield from scene.speak(call, 12)
    yield from scene.acked(call, scene.caller.sent_seq)
    if call.half_closed:
        scene.notes.append("it half-closes before the answer: nothing can be acked")
    yield from scene.answer(call)
    yield from scene.part(call)


@_check("acked-seq")
def acked_seq(scene: Scene) -> Steps[None]:
    """Messages that only carry `acked_seq` are no events, and no end."""
    call = yield from scene.open()
    for seq in range(1, len(scene.caller.uplink) + 1):
        yield from scene.send(call, pb.ConverseResponse(acked_seq=seq))
    yield from scene.answer(call)
    yield from scene.send(call, pb.ConverseResponse(acked_seq=len(scene.caller.uplink)))
    yield from scene.part(call)


@_check("barge-in")
def barge_in(scene: Scene) -> Steps[None]:
    """`interrupted`: numbers in its range are no loss, the playout queue is emptied, it is acked."""
    call = yield from scene.open()
    first = scene.caller.sent_seq + 1
    for _ in range(4):
        yield from scene.say(call, audio=pb.AudioOutput(frames=[b"\1\0" * 2400], sample_rate_hertz=24_000))
    scene.caller.sent_seq += 2  # void before they were sent
    void = pb.Interrupted(
        reason=pb.INTERRUPTION_REASON_BARGE_IN, void_from_seq=first, void_to_seq=scene.caller.sent_seq
    )
    seq = yield from scene.say(call, interrupted=void)
    yield from scene.acked(call, seq, ", the `interrupted`")
    yield from scene.answer(call)
    yield from scene.part(call)
    _check_playout(scene, first, seq)


def _check_playout(scene: Scene, first: int, interrupted: int) -> None:
    reports = scene.caller.reports
    if not any(report.event == "played" for report in reports):
        scene.notes.append("it does not report what it plays")
        return
    told = next((n for n, report in enumerate(reports) if report.event == "interrupted"), None)
    if told is None:
        raise Violation("reports what it plays, but not that it was interrupted")
    for report in reports[told:]:
        if report.event == "played" and first <= report.seq < interrupted:
            raise Violation(f"played {report.seq} after it was interrupted; {first} to {interrupted - 1} are void")


@_check("gaps")
def gaps(scene: Scene) -> Steps[None]:
    """A `gap` names numbers that never come: they are no error, and the ack goes past them."""
    call = yield from scene.open()
    yield from scene.speak(call, 1)
    lost = scene.caller.sent_seq + 1
    scene.caller.sent_seq += 2
    gap = pb.Gap(
        direction=pb.DIRECTION_DOWNLINK,
        from_seq=lost,
        to_seq=lost + 1,
        media_class=pb.MEDIA_CLASS_AUDIO,
        reason="OVERLOAD",
    )
    yield from scene.send(call, pb.ConverseResponse(gap=gap))
    yield from scene.speak(call, 1)
    yield from scene.acked(call, scene.caller.sent_seq, ", behind the gap")
    uplink = pb.Gap(
        direction=pb.DIRECTION_UPLINK, from_seq=1, to_seq=1, media_class=pb.MEDIA_CLASS_AUDIO, reason="OVERLOAD"
    )
    yield from scene.say(call, gap=uplink)
    yield from scene.answer(call)
    yield from scene.part(call)


@_check("payloads")
def payloads(scene: Scene) -> Steps[None]:
    """Events that it does not use are passed over and acked."""
    call = yield from scene.open()
    yield from scene.say(call, input_transcript=pb.Transcript(text="hello", finished=True, language="en-US"))
    yield from scene.say(call, text=pb.TextOutput(text="thinking", thought=True))
    yield from scene.say(call, voice_activity=pb.VoiceActivity(kind=pb.VOICE_ACTIVITY_KIND_START))
    for phase in (pb.TOOL_PHASE_STARTED, pb.TOOL_PHASE_PROGRESS, pb.TOOL_PHASE_FINISHED):
        yield from scene.say(call, tool_activity=pb.ToolActivity(call_id="1", name="t", phase=phase))
    yield from scene.say(call, tool_call_cancelled=pb.ToolCallCancelled(call_ids=["1"]))
    yield from scene.say(call, usage=pb.Usage(total_tokens=1, prompt_tokens_by_modality={"AUDIO": 1}))
    yield from scene.say(call, link_state=pb.LinkState(rotating=pb.Rotating(cause="GO_AWAY")))
    yield from scene.say(call, link_state=pb.LinkState(recovered=pb.Recovered(method="RESUMED", state_restored=True)))
    yield from scene.say(call, raw=pb.Raw(json='{"new": true}'))
    yield from scene.acked(call, scene.caller.sent_seq)
    yield from scene.answer(call)
    yield from scene.part(call)


@_check("unknown")
def unknown(scene: Scene) -> Steps[None]:
    """Payloads, fields and enum values of a newer release are passed over and acked."""
    call = yield from scene.open()
    yield from scene.say(call, unknown=UNKNOWN_PAYLOAD)
    strange = pb.VoiceActivity.FromString(bytes([0x08, UNKNOWN_ENUM]))
    yield from scene.say(call, voice_activity=strange, unknown=UNKNOWN_PAYLOAD)
    yield from scene.acked(call, scene.caller.sent_seq)
    yield from scene.answer(call)
    yield from scene.part(call)


@_check("ended")
def ended(scene: Scene) -> Steps[None]:
    """`ended` is the end, whoever ended the session: no further call."""
    call = yield from scene.open()
    yield from scene.say(call, ended=pb.Ended(reason=pb.END_REASON_OPERATOR, message="maintenance"))
    yield from scene.finish(call, Status())
    yield from scene.exits(well=None)


@_check("ended-failed")
def ended_failed(scene: Scene) -> Steps[None]:
    """`ended` before UNAVAILABLE: the session is not resumed; a new one has another request id."""
    call = yield from scene.open()
    yield from scene.say(call, ended=pb.Ended(reason=pb.END_REASON_BACKEND, message="the model's link closed"))
    yield from scene.finish(call, Status("UNAVAILABLE", "BACKEND_UNAVAILABLE", 0.2))
    yield from scene.exits_or_opens_anew(call)


# Refusals


@_check("retry-open")
def retry_open(scene: Scene) -> Steps[None]:
    """An open that time can mend is repeated, after RetryInfo's delay, with the same request id."""
    first = yield from scene.new_call()
    call = first
    for status in (Status("RESOURCE_EXHAUSTED", "NO_CAPACITY", 0.5), Status("UNAVAILABLE"), Status("CANCELLED")):
        at = yield from scene.finish(call, status)
        call = yield from scene.new_call(f"the same `open` again, after {status}")
        scene.waited(at, call, status)
        assert call.open is not None
        assert first.open is not None
        if call.open.request_id != first.open.request_id:
            raise Violation("repeated its open with another `request_id`: that makes a second session")
    yield from scene.welcome(call, existing=True)
    yield from scene.question()
    yield from scene.answer(call)
    yield from scene.part(call)


def _refused_open(status: Status) -> Callable[[Scene], Steps[None]]:
    def script(scene: Scene) -> Steps[None]:
        call = yield from scene.new_call()
        yield from scene.finish(call, status)
        yield from scene.exits(well=False)

    return script


def _broken_off(status: Status) -> Callable[[Scene], Steps[None]]:
    def script(scene: Scene) -> Steps[None]:
        call = yield from scene.open()
        yield from scene.finish(call, status)
        yield from scene.exits(well=False)

    return script


def _refused_resume(status: Status) -> Callable[[Scene], Steps[None]]:
    def script(scene: Scene) -> Steps[None]:
        call = yield from scene.open()
        back = yield from scene.lose(call, GOING)
        yield from scene.finish(back, status)
        yield from scene.exits_or_opens_anew(call)

    return script


for _name, _what, _make, _status in (
    ("open-invalid", "An open", _refused_open, Status("INVALID_ARGUMENT", "FIELD_INVALID")),
    ("open-unauthenticated", "An open", _refused_open, Status("UNAUTHENTICATED", "CREDENTIAL_INVALID")),
    ("open-unknown", "An open", _refused_open, Status("NOT_FOUND", "PROFILE_UNKNOWN")),
    ("stream-invalid", "A stream", _broken_off, Status("INVALID_ARGUMENT", "SEQUENCE_BROKEN")),
    ("stream-superseded", "A stream", _broken_off, Status("ABORTED", "SUPERSEDED")),
    ("resume-unknown", "A resume", _refused_resume, Status("NOT_FOUND", "SESSION_UNKNOWN")),
    ("resume-denied", "A resume", _refused_resume, Status("PERMISSION_DENIED", "RESUME_REFUSED")),
):
    _goal = f"{_what} that ends with {_status} is not repeated; exit status other than 0"
    CLIENT_CHECKS[_name] = ClientCheck(_name, _goal, _make(_status))


# Resume


def _cut(scene: Scene) -> Steps[Call]:
    """A session in the middle of its answer."""
    call = yield from scene.open()
    yield from scene.say(call, input_transcript=pb.Transcript(text="hello", finished=True))
    yield from scene.speak(call, 2)
    return call


@_check("resume")
def resume(scene: Scene) -> Steps[None]:
    """UNAVAILABLE: resumes after RetryInfo's delay, and sends again from `next_uplink_seq`."""
    call = yield from _cut(scene)
    back = yield from scene.lose(call, GOING)
    known = len(scene.caller.uplink)
    yield from scene.resumed(back, next_seq=1)
    yield from scene.until(
        lambda: scene.caller.next_seq > known, f"messages 1 to {known} again, which the service does not have"
    )
    yield from scene.answer(back)
    yield from scene.part(back)


@_check("resume-acked")
def resume_acked(scene: Scene) -> Steps[None]:
    """Lost repeatedly, and without details: resumes each time, and numbers on from `next_uplink_seq`."""
    call = yield from _cut(scene)
    for status in (Status("UNAVAILABLE"), Status("CANCELLED"), Status("INTERNAL"), GOING):
        call = yield from scene.lose(call, status)
        yield from scene.resumed(call, next_seq=max(scene.caller.uplink) + 1)
        yield from scene.speak(call, 1)
    yield from scene.answer(call)
    yield from scene.part(call)


@_check("resume-window")
def resume_window(scene: Scene) -> Steps[None]:
    """Gives up when nobody can be reached within `resume_window`."""
    call = yield from scene.open(window=SHORT_WINDOW)
    lost = at = yield from scene.finish(call, GOING)

    def next_one() -> bool:
        return scene.waiting or scene.caller.exit is not None

    while scene.caller.exit is None:
        yield from scene.until(next_one, "the end of the command", SHORT_WINDOW)
        if not scene.waiting:
            break
        call = yield from scene.call()
        scene.check_resume(call)
        scene.waited(at, call, GOING)
        if call.at > lost + SHORT_WINDOW + WINDOW_SLACK:
            raise Violation(f"still tries {call.at - lost:.1f} s after the loss; the window is {SHORT_WINDOW:g} s")
        at = yield from scene.finish(call, GOING)
    yield from scene.exits(well=False)


@_check("draining")
def draining(scene: Scene) -> Steps[None]:
    """`gateway_draining`: resumes on another connection, or after the UNAVAILABLE that follows."""
    call = yield from _cut(scene)
    going = pb.GatewayDraining()
    going.time_left.FromMilliseconds(round(DRAIN * 1000))
    yield from scene.send(call, pb.ConverseResponse(gateway_draining=going))
    limit = scene.now + DRAIN
    back: Call | None = None
    while back is None and scene.now < limit:
        yield from scene.step(limit - scene.now)
        if scene.waiting:
            early = yield from scene.call()
            if early.connection != call.connection:
                back = early  # another gateway
            else:
                yield from scene.finish(early, GOING)
    if back is None:
        at = yield from scene.finish(call, GOING)
        back = yield from scene.call(f"a stream that resumes, after {GOING}")
        if back.at >= at:  # otherwise it was on its way when the stream ended, and had no reason to wait
            scene.waited(at, back, GOING)
        scene.check_resume(back)
        scene.notes.append("resumes when the stream has ended")
    else:
        scene.check_resume(back)
        yield from scene.finish(call, Status() if call.half_closed else Status("ABORTED", "SUPERSEDED"))
        scene.notes.append("resumes while the gateway drains")
    yield from scene.resumed(back, next_seq=max(scene.caller.uplink) + 1)
    yield from scene.answer(back)
    yield from scene.part(back)
