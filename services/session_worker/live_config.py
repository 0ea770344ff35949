"""A session's settings as the SDK's set-up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.genai import types
from google.protobuf import json_format

from parley.v1 import live_pb2, tools_pb2
from services.fabric.capabilities import ModelCapabilities, capabilities_of

_MODALITY: Final = {live_pb2.MODALITY_TEXT: types.Modality.TEXT}
_THINKING: Final = {
    live_pb2.THINKING_LEVEL_MINIMAL: types.ThinkingLevel.MINIMAL,
    live_pb2.THINKING_LEVEL_LOW: types.ThinkingLevel.LOW,
    live_pb2.THINKING_LEVEL_MEDIUM: types.ThinkingLevel.MEDIUM,
    live_pb2.THINKING_LEVEL_HIGH: types.ThinkingLevel.HIGH,
}
_RESOLUTION: Final = {
    live_pb2.MEDIA_RESOLUTION_LOW: types.MediaResolution.MEDIA_RESOLUTION_LOW,
    live_pb2.MEDIA_RESOLUTION_MEDIUM: types.MediaResolution.MEDIA_RESOLUTION_MEDIUM,
    live_pb2.MEDIA_RESOLUTION_HIGH: types.MediaResolution.MEDIA_RESOLUTION_HIGH,
}
_HANDLING: Final = {
    live_pb2.ACTIVITY_HANDLING_INTERRUPTS: types.ActivityHandling.START_OF_ACTIVITY_INTERRUPTS,
    live_pb2.ACTIVITY_HANDLING_NO_INTERRUPTION: types.ActivityHandling.NO_INTERRUPTION,
}
_COVERAGE: Final = {
    live_pb2.TURN_COVERAGE_ONLY_ACTIVITY: types.TurnCoverage.TURN_INCLUDES_ONLY_ACTIVITY,
    live_pb2.TURN_COVERAGE_ALL_INPUT: types.TurnCoverage.TURN_INCLUDES_ALL_INPUT,
    live_pb2.TURN_COVERAGE_AUDIO_ACTIVITY_AND_ALL_VIDEO: types.TurnCoverage.TURN_INCLUDES_AUDIO_ACTIVITY_AND_ALL_VIDEO,
}
_START: Final = {
    live_pb2.SENSITIVITY_HIGH: types.StartSensitivity.START_SENSITIVITY_HIGH,
    live_pb2.SENSITIVITY_LOW: types.StartSensitivity.START_SENSITIVITY_LOW,
}
_END: Final = {
    live_pb2.SENSITIVITY_HIGH: types.EndSensitivity.END_SENSITIVITY_HIGH,
    live_pb2.SENSITIVITY_LOW: types.EndSensitivity.END_SENSITIVITY_LOW,
}

DEFAULT_INPUT_RATE: Final = 16_000


def input_rate(config: live_pb2.SessionConfig) -> int:
    """Hertz of the caller's audio."""
    return config.input_sample_rate_hertz or DEFAULT_INPUT_RATE


def live_config(
    config: live_pb2.SessionConfig, tools: Sequence[tools_pb2.Tool], handle: str, headers: dict[str, str]
) -> types.LiveConnectConfig:
    """The set-up of a link.

    Transcription is always on upstream: the log stands on it. `handle` resumes; empty begins anew. Unset fields stay
    unset, so that the model's own defaults hold.
    """
    sampling = config.sampling
    return types.LiveConnectConfig(
        http_options=types.HttpOptions(headers=headers) if headers else None,
        response_modalities=[_MODALITY.get(config.response_modality, types.Modality.AUDIO)],
        system_instruction=config.instructions or None,
        speech_config=_speech(config),
        tools=_tools(tools, capabilities_of(config.model) or ModelCapabilities()),
        temperature=sampling.temperature if sampling.HasField("temperature") else None,
        top_p=sampling.top_p if sampling.HasField("top_p") else None,
        top_k=sampling.top_k if sampling.HasField("top_k") else None,
        max_output_tokens=sampling.max_output_tokens if sampling.HasField("max_output_tokens") else None,
        seed=sampling.seed if sampling.HasField("seed") else None,
        media_resolution=_RESOLUTION.get(config.media_resolution),
        thinking_config=(
            types.ThinkingConfig(thinking_level=_THINKING[config.thinking_level])
            if config.thinking_level in _THINKING
            else None
        ),
        enable_affective_dialog=config.affective_dialog or None,
        proactivity=types.ProactivityConfig(proactive_audio=True) if config.proactive_audio else None,
        input_audio_transcription=types.AudioTranscriptionConfig(),
        output_audio_transcription=types.AudioTranscriptionConfig(),
        realtime_input_config=_realtime_input(config),
        context_window_compression=_compression(config.context_compression),
        session_resumption=types.SessionResumptionConfig(handle=handle or None),
    )


def _speech(config: live_pb2.SessionConfig) -> types.SpeechConfig | None:
    if not config.voice and not config.language:
        return None
    voice = (
        types.VoiceConfig(prebuilt_voice_config=types.PrebuiltVoiceConfig(voice_name=config.voice))
        if config.voice
        else None
    )
    return types.SpeechConfig(voice_config=voice, language_code=config.language or None)


def _tools(tools: Sequence[tools_pb2.Tool], model: ModelCapabilities) -> list[types.Tool | object] | None:
    """Declarations. A behaviour that the model does not take is left out, so that its own default holds."""
    if not tools:
        return None
    behaviors: dict[int, types.Behavior] = {}
    if model.blocking_tools:
        behaviors[live_pb2.TOOL_BEHAVIOR_BLOCKING] = types.Behavior.BLOCKING
    if model.non_blocking_tools:
        behaviors[live_pb2.TOOL_BEHAVIOR_NON_BLOCKING] = types.Behavior.NON_BLOCKING
    declarations = [
        types.FunctionDeclaration(
            name=tool.declaration.name,
            description=tool.declaration.description or None,
            parameters_json_schema=json_format.MessageToDict(tool.declaration.parameters) or None,
            behavior=behaviors.get(tool.declaration.behavior),
        )
        for tool in tools
    ]
    return [types.Tool(function_declarations=declarations)]


def _realtime_input(config: live_pb2.SessionConfig) -> types.RealtimeInputConfig | None:
    detection = None
    if config.HasField("voice_activity_detection"):
        wished = config.voice_activity_detection
        detection = types.AutomaticActivityDetection(
            disabled=wished.disabled or None,
            start_of_speech_sensitivity=_START.get(wished.start_sensitivity),
            end_of_speech_sensitivity=_END.get(wished.end_sensitivity),
            prefix_padding_ms=wished.prefix_padding.ToMilliseconds() if wished.HasField("prefix_padding") else None,
            silence_duration_ms=wished.silence.ToMilliseconds() if wished.HasField("silence") else None,
        )
    handling = _HANDLING.get(config.activity_handling)
    coverage = _COVERAGE.get(config.turn_coverage)
    if detection is None and handling is None and coverage is None:
        return None
    return types.RealtimeInputConfig(
        automatic_activity_detection=detection, activity_handling=handling, turn_coverage=coverage
    )


def _compression(wished: live_pb2.ContextCompression) -> types.ContextWindowCompressionConfig | None:
    if wished.disabled:
        return None
    return types.ContextWindowCompressionConfig(
        trigger_tokens=wished.trigger_tokens or None,
        sliding_window=types.SlidingWindow(target_tokens=wished.target_tokens or None),
    )


def content(turn: live_pb2.Content) -> types.Content:
    """Content with a role, as the SDK spells it."""
    parts = [
        types.Part(text=part.text)
        if part.WhichOneof("data") == "text"
        else types.Part(inline_data=types.Blob(data=part.image.data, mime_type=part.image.mime_type))
        for part in turn.parts
    ]
    return types.Content(role="model" if turn.role == live_pb2.ROLE_MODEL else "user", parts=parts)
