"""From the wire to events. A payload of a newer server becomes `Unknown`, never an error."""

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.unknown_fields import UnknownFieldSet

from parley import events
from parley.v1 import live_pb2 as pb


def decode(response: pb.ConverseResponse) -> events.Event | None:
    """The event that a response carries; None when it only brings an `acked_seq`."""
    payload = response.WhichOneof("payload")
    if payload is None:
        if response.seq == 0 and len(UnknownFieldSet(response)) == 0:
            return None
        return events.Unknown(response.seq, response.SerializeToString())
    build = _BUILD.get(payload)
    if build is None:
        return events.Unknown(response.seq, response.SerializeToString())
    return build(response.seq, getattr(response, payload))


def to_python(value: Value | Struct | ListValue | Any) -> Any:
    """JSON values of a protobuf Struct as Python's own; whole numbers become int, as they were before the wire."""
    if isinstance(value, Struct):
        return {key: to_python(item) for key, item in value.fields.items()}
    if isinstance(value, ListValue):
        return [to_python(item) for item in value.values]
    kind = value.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    content = getattr(value, kind)
    if kind == "number_value":
        return int(content) if float(content).is_integer() else content
    return to_python(content) if kind in {"struct_value", "list_value"} else content


def _name(enum: EnumTypeWrapper, number: int, prefix: str) -> str:
    try:
        return str(enum.Name(number)).removeprefix(prefix)
    except ValueError:
        return str(number)


def _duration(value: Duration) -> timedelta:
    return timedelta(seconds=value.seconds, microseconds=value.nanos / 1000)


def _ranges(ranges: Iterable[pb.SeqRange]) -> tuple[tuple[int, int], ...]:
    return tuple((item.from_seq, item.to_seq) for item in ranges)


def _opened(seq: int, m: pb.Opened) -> events.Event:
    window = _duration(m.resume_window)
    return events.Opened(seq, m.session_id, m.resume_token, m.next_uplink_seq, m.existing, window)


def _audio(seq: int, m: pb.AudioOutput) -> events.Event:
    frames = m.frames
    return events.Audio(seq, frames[0] if len(frames) == 1 else b"".join(frames), m.sample_rate_hertz or 24_000)


def _interrupted(seq: int, m: pb.Interrupted) -> events.Event:
    reason = _name(pb.InterruptionReason, m.reason, "INTERRUPTION_REASON_")
    return events.Interrupted(seq, reason, m.void_from_seq, m.void_to_seq)


def _tool_activity(seq: int, m: pb.ToolActivity) -> events.Event:
    return events.ToolActivity(
        seq,
        m.call_id,
        m.name,
        _name(pb.ToolPhase, m.phase, "TOOL_PHASE_"),
        to_python(m.arguments),
        _name(pb.ToolOutcome, m.outcome, "TOOL_OUTCOME_") if m.outcome else "",
        m.message,
        _duration(m.duration) if m.HasField("duration") else None,
        m.fraction if m.HasField("fraction") else None,
        to_python(m.output) if m.HasField("output") else None,
    )


def _usage(seq: int, m: pb.Usage) -> events.Event:
    return events.Usage(
        seq,
        m.prompt_tokens,
        m.response_tokens,
        m.total_tokens,
        m.tool_use_tokens,
        m.thought_tokens,
        m.cached_tokens,
        dict(m.prompt_tokens_by_modality),
        dict(m.response_tokens_by_modality),
    )


def _voice_activity(seq: int, m: pb.VoiceActivity) -> events.Event:
    kind = _name(pb.VoiceActivityKind, m.kind, "VOICE_ACTIVITY_KIND_")
    return events.VoiceActivity(seq, kind, _duration(m.audio_offset))


def _link_state(seq: int, m: pb.LinkState) -> events.Event:
    match m.WhichOneof("state"):
        case "rotating":
            return events.LinkRotating(seq, m.rotating.cause)
        case "recovered":
            r = m.recovered
            return events.LinkRecovered(
                seq, r.method, r.state_restored, _duration(r.gap), _ranges(r.replayed), _ranges(r.dropped)
            )
        case _:
            return events.Unknown(seq, m.SerializeToString())


def _gap(seq: int, m: pb.Gap) -> events.Event:
    return events.Gap(
        seq,
        _name(pb.Direction, m.direction, "DIRECTION_"),
        m.from_seq,
        m.to_seq,
        _name(pb.MediaClass, m.media_class, "MEDIA_CLASS_"),
        m.reason,
    )


_BUILD: Mapping[str, Callable[[int, Any], events.Event]] = {
    "opened": _opened,
    "audio": _audio,
    "text": lambda seq, m: events.Text(seq, m.text, m.thought),
    "input_transcript": lambda seq, m: events.InputTranscript(seq, m.text, m.finished, m.language),
    "output_transcript": lambda seq, m: events.OutputTranscript(seq, m.text, m.finished, m.language),
    "interrupted": _interrupted,
    "generation_complete": lambda seq, m: events.GenerationComplete(seq),
    "turn_complete": lambda seq, m: events.TurnComplete(seq, m.reason, m.waiting_for_input),
    "tool_call": lambda seq, m: events.ToolCall(seq, m.call_id, m.name, to_python(m.arguments)),
    "tool_call_cancelled": lambda seq, m: events.ToolCallCancelled(seq, tuple(m.call_ids)),
    "tool_activity": _tool_activity,
    "usage": _usage,
    "voice_activity": _voice_activity,
    "link_state": _link_state,
    "gap": _gap,
    "gateway_draining": lambda seq, m: events.GatewayDraining(seq, _duration(m.time_left)),
    "ended": lambda seq, m: events.Ended(seq, _name(pb.EndReason, m.reason, "END_REASON_"), m.message),
    "raw": lambda seq, m: events.Raw(seq, m.json),
}
