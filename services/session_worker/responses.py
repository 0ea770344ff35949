"""Events of the link as responses to the caller."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, Final

from google.genai import types
from google.protobuf import duration_pb2, struct_pb2

from parley.v1 import fabric_pb2, live_pb2
from services.session_worker import events

_SCHEDULING: Final = {
    live_pb2.RESPONSE_SCHEDULING_SILENT: types.FunctionResponseScheduling.SILENT,
    live_pb2.RESPONSE_SCHEDULING_WHEN_IDLE: types.FunctionResponseScheduling.WHEN_IDLE,
    live_pb2.RESPONSE_SCHEDULING_INTERRUPT: types.FunctionResponseScheduling.INTERRUPT,
}


def scheduling(wished: live_pb2.ResponseScheduling) -> types.FunctionResponseScheduling | None:
    """As the SDK spells it; None: unspecified."""
    return _SCHEDULING.get(wished)


def duration(seconds: float) -> duration_pb2.Duration:
    """Seconds as a protobuf duration."""
    out = duration_pb2.Duration()
    out.FromTimedelta(timedelta(seconds=seconds))
    return out


def struct(values: dict[str, Any]) -> struct_pb2.Struct:
    """A JSON object as a protobuf struct."""
    out = struct_pb2.Struct()
    out.update(values)
    return out


def audio_milliseconds(event: events.Audio) -> int:
    """Playing time, at least 1 so that audio is never taken for something else."""
    return max(1, len(event.pcm) * 500 // event.rate)


def tool_record(
    call: events.FunctionCall,
    response: dict[str, Any],
    outcome: live_pb2.ToolOutcome,
    claim_key: str = "",
    *,
    turn: int = 0,
    silent: bool = False,
) -> fabric_pb2.ToolRecord:
    """A call of this turn and what the model was answered, for the log; without a claim when the caller ran it.
    `silent`: the model is not to speak of it."""
    return fabric_pb2.ToolRecord(
        call_id=call.id,
        name=call.name,
        arguments_json=json.dumps(call.args),
        response_json=json.dumps(response),
        outcome=outcome,
        claim_key=claim_key,
        turn=turn,
        silent=silent,
    )


def response_for(event: events.Event, config: live_pb2.SessionConfig) -> live_pb2.ConverseResponse | None:
    """What the caller is told of an event; None when it is not for the caller.

    Interruptions and function calls are not translated here: they need the session's state.
    """
    match event:
        case events.Audio():
            return live_pb2.ConverseResponse(
                audio=live_pb2.AudioOutput(frames=[event.pcm], sample_rate_hertz=event.rate)
            )
        case events.Text():
            return live_pb2.ConverseResponse(text=live_pb2.TextOutput(text=event.text, thought=event.thought))
        case events.InputTranscript() if config.input_transcription:
            return live_pb2.ConverseResponse(input_transcript=_transcript(event))
        case events.OutputTranscript() if config.output_transcription:
            return live_pb2.ConverseResponse(output_transcript=_transcript(event))
        case events.GenerationComplete():
            return live_pb2.ConverseResponse(generation_complete=live_pb2.GenerationComplete())
        case events.TurnComplete():
            return live_pb2.ConverseResponse(
                turn_complete=live_pb2.TurnComplete(reason=event.reason, waiting_for_input=event.waiting_for_input)
            )
        case events.Usage():
            return live_pb2.ConverseResponse(usage=usage(event))
        case events.VoiceActivity():
            kind = live_pb2.VOICE_ACTIVITY_KIND_START if event.started else live_pb2.VOICE_ACTIVITY_KIND_END
            return live_pb2.ConverseResponse(
                voice_activity=live_pb2.VoiceActivity(kind=kind, audio_offset=duration(event.offset_seconds))
            )
        case events.Unknown():
            return live_pb2.ConverseResponse(raw=live_pb2.Raw(json=event.json))
        case _:
            return None


def _transcript(event: events.InputTranscript | events.OutputTranscript) -> live_pb2.Transcript:
    return live_pb2.Transcript(text=event.text, finished=event.finished, language=event.language)


def usage(event: events.Usage) -> live_pb2.Usage:
    """Token counts."""
    return live_pb2.Usage(
        prompt_tokens=event.prompt,
        response_tokens=event.response,
        total_tokens=event.total,
        tool_use_tokens=event.tool_use,
        thought_tokens=event.thoughts,
        cached_tokens=event.cached,
        prompt_tokens_by_modality=event.prompt_by_modality,
        response_tokens_by_modality=event.response_by_modality,
    )
