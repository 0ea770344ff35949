"""Everything that can be asked for at `open` arrives in the set-up that the model gets, and nothing else does."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

import parley
from parley import errors, events
from parley.cli.stack import Stack, StackConfig
from parley.v1 import live_pb2
from tests.gateway.test_session_config import function, said
from tests.support.counts import heard

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

LIVE, THINKING = "gemini-3.8-live", "gemini-3.8-live-extended-thinking"
FLASH, NATIVE = "gemini-3.1-flash-live-preview", "gemini-2.5-flash-native-audio-preview-12-2025"
TRANSLATE, TRANSCRIBE = "gemini-3.5-live-translate-preview", "gemini-3.5-transcribe-live"
SAMPLING = live_pb2.Sampling(temperature=0.5, top_p=0.25, top_k=7, max_output_tokens=100, seed=3)
SCHEMA = {"type": "object", "properties": {"room": {"type": "string"}}, "required": ["room"]}
VAD = "realtimeInputConfig.automaticActivityDetection"
GENERATION = "generationConfig"


def detection(**fields: Any) -> dict[str, Any]:
    return {"voice_activity_detection": live_pb2.VoiceActivityDetection(**fields)}


def compression(**fields: Any) -> dict[str, Any]:
    return {"context_compression": live_pb2.ContextCompression(**fields)}


UNLOGGED = {"conversation_log": live_pb2.ConversationLog(disabled=True)}
ROWS: list[tuple[str, dict[str, Any], str, Any]] = [
    (LIVE, {}, "model", f"models/{LIVE}"),
    (LIVE, {"instructions": "be kind"}, "systemInstruction.parts.0.text", "be kind"),
    (LIVE, {"voice": "Kore"}, f"{GENERATION}.speechConfig.voiceConfig.prebuiltVoiceConfig.voiceName", "Kore"),
    (LIVE, {"language": "de-DE"}, f"{GENERATION}.speechConfig.languageCode", "de-DE"),
    (LIVE, {"tools": ["get_weather"]}, "tools.0.functionDeclarations.0.name", "get_weather"),
    (LIVE, {"google_search": True}, "tools.0", {"googleSearch": {}}),
    (LIVE, {"response_modality": live_pb2.MODALITY_AUDIO}, f"{GENERATION}.responseModalities", ["AUDIO"]),
    (TRANSCRIBE, {"response_modality": live_pb2.MODALITY_TEXT}, f"{GENERATION}.responseModalities", ["TEXT"]),
    (TRANSCRIBE, {}, f"{GENERATION}.responseModalities", ["TEXT"]),
    (LIVE, detection(disabled=True), f"{VAD}.disabled", True),
    (
        LIVE,
        detection(start_sensitivity=live_pb2.SENSITIVITY_LOW),
        f"{VAD}.startOfSpeechSensitivity",
        "START_SENSITIVITY_LOW",
    ),
    (
        LIVE,
        detection(end_sensitivity=live_pb2.SENSITIVITY_HIGH),
        f"{VAD}.endOfSpeechSensitivity",
        "END_SENSITIVITY_HIGH",
    ),
    (LIVE, detection(prefix_padding=Duration(nanos=120_000_000)), f"{VAD}.prefixPaddingMs", 120),
    (LIVE, detection(silence=Duration(seconds=1, nanos=500_000_000)), f"{VAD}.silenceDurationMs", 1500),
    (
        LIVE,
        {"activity_handling": live_pb2.ACTIVITY_HANDLING_NO_INTERRUPTION},
        "realtimeInputConfig.activityHandling",
        "NO_INTERRUPTION",
    ),
    (
        LIVE,
        {"turn_coverage": live_pb2.TURN_COVERAGE_ALL_INPUT},
        "realtimeInputConfig.turnCoverage",
        "TURN_INCLUDES_ALL_INPUT",
    ),
    # The log stands on transcripts, whoever wants to see them; without it they are made for those alone.
    (LIVE, {}, "inputAudioTranscription", {}),
    (LIVE, {}, "outputAudioTranscription", {}),
    (LIVE, UNLOGGED, "inputAudioTranscription", None),
    (LIVE, UNLOGGED, "outputAudioTranscription", None),
    (LIVE, {**UNLOGGED, "input_transcription": True}, "inputAudioTranscription", {}),
    (LIVE, {**UNLOGGED, "input_transcription": True}, "outputAudioTranscription", None),
    (LIVE, {**UNLOGGED, "output_transcription": True}, "outputAudioTranscription", {}),
    (LIVE, {}, "contextWindowCompression.slidingWindow", {}),
    (LIVE, compression(trigger_tokens=20_000), "contextWindowCompression.triggerTokens", 20_000),
    (
        LIVE,
        compression(trigger_tokens=20_000, target_tokens=8000),
        "contextWindowCompression.slidingWindow.targetTokens",
        8000,
    ),
    (LIVE, compression(disabled=True), "contextWindowCompression", None),
    (LIVE, {}, "sessionResumption", {}),
    (LIVE, {"resumption": live_pb2.Resumption(disabled=True)}, "sessionResumption", None),
    (
        THINKING,
        {"thinking_level": live_pb2.THINKING_LEVEL_HIGH},
        f"{GENERATION}.thinkingConfig.thinkingLevel",
        "HIGH",
    ),
    (NATIVE, {"thinking_budget_tokens": 512}, f"{GENERATION}.thinkingConfig.thinkingBudget", 512),
    (NATIVE, {"include_thoughts": True}, f"{GENERATION}.thinkingConfig.includeThoughts", True),
    (NATIVE, {"proactive_audio": True}, "proactivity.proactiveAudio", True),
    (LIVE, {"proactive_audio": True}, "proactivity", None),  # it always is, and has no such field
    (NATIVE, {"affective_dialog": True}, f"{GENERATION}.enableAffectiveDialog", True),
    (
        LIVE,
        {"media_resolution": live_pb2.MEDIA_RESOLUTION_MEDIUM},
        f"{GENERATION}.mediaResolution",
        "MEDIA_RESOLUTION_MEDIUM",
    ),
    (LIVE, {"sampling": SAMPLING}, f"{GENERATION}.temperature", 0.5),
    (LIVE, {"sampling": SAMPLING}, f"{GENERATION}.topP", 0.25),
    (LIVE, {"sampling": SAMPLING}, f"{GENERATION}.topK", 7),
    (LIVE, {"sampling": SAMPLING}, f"{GENERATION}.maxOutputTokens", 100),
    (LIVE, {"sampling": SAMPLING}, f"{GENERATION}.seed", 3),
    (LIVE, {"history": [said("hi")]}, "historyConfig.initialHistoryInClientContent", True),
    (LIVE, {"caller_tools": [function("book", SCHEMA)]}, "tools.0.functionDeclarations.0.parametersJsonSchema", SCHEMA),
    (
        LIVE,
        {"caller_tools": [function("book", description="Books.")]},
        "tools.0.functionDeclarations.0.description",
        "Books.",
    ),
    (
        LIVE,
        {"caller_tools": [function("book", behavior=live_pb2.TOOL_BEHAVIOR_BLOCKING)]},
        "tools.0.functionDeclarations.0.behavior",
        "BLOCKING",
    ),
    (LIVE, {"caller_tools": [function("book")]}, "tools.0.functionDeclarations.0.behavior", None),
    (
        THINKING,
        {"caller_tools": [function("book")], "thinking_level": live_pb2.THINKING_LEVEL_LOW},
        "tools.0.functionDeclarations.0.behavior",
        "NON_BLOCKING",
    ),
    (
        FLASH,
        {"tools": ["get_weather"], "thinking_level": live_pb2.THINKING_LEVEL_MINIMAL},
        "tools.0.functionDeclarations.0.behavior",
        None,
    ),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack() -> AsyncIterator[Stack]:
    async with Stack(StackConfig(workers=1, gateways=1)) as running:
        yield running


def address(stack: Stack) -> str:
    return str(stack.gateways[0].ready["address"])


def at(setup: Any, path: str) -> Any:
    """What the set-up has at a path in camel case, whichever spelling the SDK chose; None where there is nothing."""
    for step in path.split("."):
        if isinstance(setup, list):
            setup = setup[int(step)] if int(step) < len(setup) else None
        elif isinstance(setup, dict):
            setup = {_camel(name): value for name, value in setup.items()}.get(step)
    return setup


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


@pytest.mark.parametrize(("model", "fields", "path", "value"), ROWS)
async def test_a_field_arrives_in_the_set_up(
    stack: Stack, model: str, fields: dict[str, Any], path: str, value: Any
) -> None:
    config = live_pb2.SessionConfig(model=model, **fields)
    async with parley.connect(address(stack), config=config) as session:
        pass
    assert at((await heard(stack, session.id))["links"][0]["setup"], path) == value


async def test_no_field_of_the_settings_was_forgotten() -> None:
    tried = {name for _, fields, _, _ in ROWS for name in fields} | {"model"}
    # Neither can be seen in this set-up: the rate goes with each piece of audio, translation has a test of its own.
    elsewhere = {"input_sample_rate_hertz", "translation"}
    assert tried | elsewhere == set(live_pb2.SessionConfig.DESCRIPTOR.fields_by_name)
    nested = {
        "voice_activity_detection": live_pb2.VoiceActivityDetection,
        "context_compression": live_pb2.ContextCompression,
        "sampling": live_pb2.Sampling,
        "conversation_log": live_pb2.ConversationLog,
    }
    for name, kind in nested.items():
        set_ = {field.name for _, fields, _, _ in ROWS if name in fields for field, _ in fields[name].ListFields()}
        assert set_ == set(kind.DESCRIPTOR.fields_by_name)


async def test_a_translation_reaches_the_models_endpoint(stack: Stack) -> None:
    """The emulator does not translate, and says so in the close that answers the set-up."""
    config = live_pb2.SessionConfig(model=TRANSLATE, translation=live_pb2.Translation(target_language="es"))
    with pytest.raises(errors.FailedPrecondition) as refused:
        async with parley.connect(address(stack), config=config):
            pass
    assert refused.value.reason == "BACKEND_REFUSED"
    assert "Not emulated: translation" in refused.value.message


async def test_audio_states_the_rate_of_the_session(stack: Stack) -> None:
    config = live_pb2.SessionConfig(model=LIVE, input_sample_rate_hertz=8000)
    async with parley.connect(address(stack), config=config) as session:
        await session.send_audio(bytes(16_000))
        await session.audio_stream_end()
    assert (await heard(stack, session.id))["audio"]["seconds"] == 1.0


async def test_history_is_known_and_not_answered(stack: Stack) -> None:
    history = [said("my order is 4711"), said("thank you", live_pb2.ROLE_MODEL)]
    config = live_pb2.SessionConfig(model=LIVE, history=history, output_transcription=True)
    async with parley.connect(address(stack), config=config) as session:
        await session.send_text("hello")
        turns = 0
        async for event in session:
            turns += isinstance(event, events.TurnComplete)
            if turns:
                break
    record = await heard(stack, session.id)
    assert [(turn["role"], turn["text"]) for turn in record["turns"]] == [
        ("user", "my order is 4711"),
        ("model", "thank you"),
    ]
    assert record["texts"] == ["hello"]
    assert record["usage"]["turns"] == 1


async def test_transcripts_are_told_to_whom_they_were_promised(stack: Stack) -> None:
    for wanted in (True, False):
        config = live_pb2.SessionConfig(model=LIVE, output_transcription=wanted)
        async with parley.connect(address(stack), config=config) as session:
            await session.send_text("hello")
            told = False
            async for event in session:
                told = told or isinstance(event, events.OutputTranscript)
                if isinstance(event, events.TurnComplete):
                    break
            assert told is wanted
