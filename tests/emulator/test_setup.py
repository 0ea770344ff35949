import json
from typing import Any

import pytest

from emulator import prebuilt, texts
from emulator.api import schema
from emulator.api.protocol import Decoder
from emulator.configuration.compression import Compression
from emulator.configuration.generation import Generation
from emulator.configuration.setup import Config, Transcription, accept
from emulator.errors import Refusal
from emulator.models import MODELS
from emulator.switches import Switches
from tests.emulator.behaviour import behaviour, patched, without
from tests.emulator.caller import Caller
from tests.emulator.conftest import Here
from tests.emulator.raw import HELLO, SETUP, Socket
from tests.emulator.rows import row

LIVE = "gemini-3.8-live"
THINKING = "gemini-3.8-live-extended-thinking"
FLASH = "gemini-3.1-flash-live-preview"
NATIVE = "gemini-2.5-flash-native-audio-preview-12-2025"
HALF = "gemini-live-2.5-flash"
ALL = (LIVE, THINKING, FLASH, NATIVE)
INVALID = "Request contains an invalid argument."
NO_LEVEL = "Thinking level is not supported for this model."


def setup(
    model: str = LIVE,
    *,
    backend: str = "developer",
    version: str = "v1beta",
    switches: dict[str, Any] | None = None,
    **fields: Any,
) -> Config:
    """A setup on its whole way, from JSON; extended thinking gets the level that it needs."""
    if model == THINKING:
        generation = fields.setdefault("generationConfig", {})
        generation.setdefault("thinkingConfig", {"thinkingLevel": "LOW"})
    name = model if "/" in model else ("models/" if backend == "developer" else "publishers/google/models/") + model
    parsed = Decoder(backend, version, strict=True).decode(json.dumps({"setup": {"model": name, **fields}}))
    return accept(parsed.body, backend=backend, api_version=version, switches=Switches().changed(switches or {}))


def refused(*args: Any, code: int = 1007, **fields: Any) -> str:
    """Why a setup is refused."""
    with pytest.raises(Refusal) as caught:
        setup(*args, **fields)
    assert caught.value.code == code
    return caught.value.text


def thinking(**fields: Any) -> dict[str, Any]:
    return {"generationConfig": {"thinkingConfig": fields}}


def functions(*declarations: dict[str, Any]) -> dict[str, Any]:
    return {
        "tools": [{"functionDeclarations": [{"name": f"f{number}", **one} for number, one in enumerate(declarations)]}]
    }


# Models


@behaviour(
    "10.16", "2.4.18", off=patched("emulator.models.ALIASES", {"gemini-2.0-flash-live-001": LIVE, "gemini-9": LIVE})
)
def test_a_model_that_is_unknown_or_shut_down_is_not_found() -> None:
    for model in ("models/gemini-9", "models/gemini-2.0-flash-live-001", "models/gemini-live-2.5-flash-preview"):
        assert refused(model, code=1008) == (
            f"{model} is not found for API version v1beta, or is not supported for bidiGenerateContent. Call "
            "ModelService.ListModels to see the list of available models and their supported methods."
        )


@behaviour("10.2", off=without(api_versions="v1,v1beta"))
def test_a_version_that_is_not_served_has_no_models(switches: dict[str, Any]) -> None:
    chosen = {"api_versions": "v1beta", **switches}
    assert setup(switches=chosen).model == LIVE
    assert " is not found for API version v1, or " in refused(version="v1", switches=chosen, code=1008)


def test_each_backend_has_models_of_its_own() -> None:
    vertex = "projects/p/locations/l/publishers/google/models/"
    for name in (f"publishers/google/models/{LIVE}", vertex + LIVE, LIVE, f"models/{LIVE}"):
        config = accept({"model": name}, backend="vertex", api_version="v1beta1")
        assert (config.model, config.rules) == (LIVE, MODELS["vertex"][LIVE])
    text = refused(vertex + THINKING, backend="vertex", version="v1", code=1008)
    assert text.startswith(f"Publisher model `{vertex}{THINKING}` was not found or your project does not have access")
    for name in (LIVE, f"publishers/google/models/{LIVE}", f"tunedModels/{LIVE}", "models/", f"models/{HALF}"):
        with pytest.raises(Refusal, match=r"^1008 .* is not found for API version v1beta"):
            accept({"model": name}, backend="developer", api_version="v1beta")
    assert setup("gemini-2.5-flash-native-audio-latest").rules is MODELS["developer"][NATIVE]


def test_a_setup_names_its_model() -> None:
    for body in ({}, {"model": ""}):
        with pytest.raises(Refusal, match=r"^1007 model is required"):
            accept(body, backend="developer", api_version="v1beta")


def test_what_the_emulator_cannot_stand_in_for_says_so() -> None:
    assert refused("gemini-3.5-live-translate-preview", code=1008).startswith("Not emulated: translation")
    text = refused(HALF, backend="vertex", generationConfig={"responseModalities": ["TEXT"]}, code=1008)
    assert text == "Not emulated: answers in text (response modality TEXT)"


# Generation


@behaviour("2.4.17", "10.14", off=patched("emulator.configuration.generation._check_thinking", lambda *_: None))
def test_thinking_is_asked_for_as_the_model_wants_it() -> None:
    assert refused(LIVE, **thinking(thinkingLevel="LOW")) == NO_LEVEL
    assert refused(LIVE, **thinking(thinkingBudget=0)) == NO_LEVEL
    assert (
        refused(THINKING, generationConfig={"thinkingConfig": {}}) == "Thinking level must be specified for this model."
    )
    level = "Thinking level MINIMAL is not supported for this model."
    assert refused(THINKING, **thinking(thinkingLevel="minimal")) == level
    assert refused(THINKING, **thinking(thinkingLevel="LOW", thinkingBudget=10)) == NO_LEVEL
    assert refused(FLASH, **thinking(thinkingBudget=10)) == INVALID
    assert refused(FLASH, **thinking(thinkingLevel="XHIGH")) == "Thinking level XHIGH is not supported for this model."
    assert refused(NATIVE, **thinking(thinkingLevel="LOW")) == NO_LEVEL
    assert "thinking_budget must be in the range [-1, 24576]" in refused(NATIVE, **thinking(thinkingBudget=10**6))
    for model, level in ((THINKING, "HIGH"), (FLASH, "MINIMAL")):
        assert setup(model, **thinking(thinkingLevel=level, includeThoughts=True)).generation.thoughts
    assert setup(NATIVE, **thinking(thinkingBudget=-1)).model == NATIVE


@behaviour("10.13", "13.23", off=row(LIVE, modalities=("AUDIO", "TEXT"), kind="transcription"))
def test_only_audio_is_answered() -> None:
    for wanted in (["TEXT"], ["AUDIO", "TEXT"], ["VIDEO"]):
        text = f"The requested combination of response modalities ({', '.join(wanted)}) is not supported by the model"
        for model in ALL:
            assert refused(model, generationConfig={"responseModalities": wanted}) == text
    for wanted in ({}, {"responseModalities": []}, {"responseModalities": "audio"}):
        assert setup(generationConfig=wanted).generation.modality == "AUDIO"


@behaviour("13.23", off=row(NATIVE, idle_tools=frozenset({"codeExecution"})))
def test_of_built_in_tools_there_is_search() -> None:
    for model in (NATIVE, LIVE):
        text = refused(model, tools=[{"codeExecution": {}}])
        assert text == "Code Execution tool is not supported for this model"
    assert refused(tools=[{"googleMaps": {}}]) == "Google Maps tool is not supported for this model"
    assert refused(tools=[{"fileSearch": {}}]) == "File Search tool is not supported for this model"
    setup(tools=[{"googleSearch": {}}, {"urlContext": {}, "mcpServers": []}, {"googleSearchRetrieval": {}}])


@behaviour("13.23", off=row(LIVE, voices=prebuilt.VOICES | {"alloy"}))
def test_an_unknown_voice_closes() -> None:
    def speech(name: str) -> dict[str, Any]:
        return {"generationConfig": {"speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": name}}}}}

    assert len(prebuilt.VOICES) == 30
    for name in (*prebuilt.VOICES, "puck"):
        setup(**speech(name))
    assert (
        refused(**speech("alloy"))
        == "Requested voice api_name 'alloy' is not available for model models/gemini-3.8-live"
    )
    assert "Sulafat" in refused(HALF, backend="vertex", **speech("Sulafat"))
    text = {**speech("Puck")["generationConfig"], "responseModalities": ["TEXT"]}
    assert refused("gemini-3.5-transcribe-live", generationConfig=text) == (
        "Cannot extract voices from a non-audio request."
    )


@behaviour("setup.language", off=row(NATIVE, languages=None))
def test_a_language_that_the_model_does_not_speak_closes() -> None:
    def speech(code: str) -> dict[str, Any]:
        return {"generationConfig": {"speechConfig": {"languageCode": code}}}

    for code in ("sv-SE", "en", "cmn-CN"):
        assert refused(NATIVE, **speech(code)) == f"Unsupported language code '{code}' for model models/{NATIVE}"
    for model, code in ((NATIVE, "en-US"), (FLASH, "cmn-TW"), (LIVE, "zh-Hans-CN"), (LIVE, "")):
        setup(model, **speech(code))
    assert refused(LIVE, **speech("english")).startswith("Unsupported language code 'english'")


@behaviour("setup.ranges", off=patched("emulator.configuration.generation._LIMITS", ()))
def test_numbers_are_within_their_limits() -> None:
    for name, allowed, forbidden, rule in (
        ("temperature", (0, 2), (-0.1, 2.1), "temperature must be in the range [0.0, 2.0]"),
        ("topP", (0, 1), (-0.1, 1.1), "top_p must be in the range [0.0, 1.0]"),
        ("topK", (1, 40.0), (0,), "top_k must be positive"),
        ("candidateCount", (1, 8), (0, 9), "candidate_count must be in the range [1, 8]"),
        ("presencePenalty", (-2, 1), (2.5,), "presence_penalty must be in the range [-2.0, 2.0]"),
        ("maxOutputTokens", (1, 65_536), (0, -5), "max_output_tokens must be positive"),
    ):
        for value in allowed:
            setup(generationConfig={name: value})
        for value in forbidden:
            field = rule.partition(" ")[0]
            assert refused(generationConfig={name: value}) == (
                f"* BidiGenerateContentRequest.setup.generation_config.{field}: {rule}\n"
            )
    assert "max_output_tokens must be in the range [1, 65536]" in refused(generationConfig={"maxOutputTokens": 65_537})


def test_what_is_heeded_of_the_generation_is_kept() -> None:
    config = setup(
        generationConfig={
            "seed": 7,
            "maxOutputTokens": 100,
            "mediaResolution": "MEDIA_RESOLUTION_LOW",
            "responseMimeType": "text/plain",
            "stopSequences": ["x"],
        }
    )
    assert config.generation == Generation(seed=7, max_output_tokens=100, media_resolution="LOW")
    assert config.media_resolution == "LOW"


def _without_13_4(backend: str, version: str) -> Any:
    message = schema._Api(backend, version).message()
    for name in ("candidateCount", "frequencyPenalty", "presencePenalty"):
        del message["setup"]["generationConfig"][name]
    return message


@behaviour("13.4", off=patched("emulator.api.schema.message", _without_13_4))
def test_the_fields_that_frameworks_send_are_accepted() -> None:
    generation = {"candidateCount": 1, "frequencyPenalty": 0.5, "presencePenalty": -0.5}
    for instructions in (
        {"role": "system", "parts": [{"text": "be brief"}]},
        {"parts": [{"text": ""}]},
        {"parts": []},
        {},
    ):
        config = setup(
            generationConfig=generation,
            systemInstruction=instructions,
            historyConfig={"initialHistoryInClientContent": True},
            sessionResumption={"handle": "h"},
            labels={"tenant": "t"},
            safetySettings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
        )
        text = "be brief" if "role" in instructions else ""
        assert (config.instructions, config.seeds_history, config.handle) == (text, True, "h")
        assert config.labels == {"tenant": "t"}


# Dialog


@behaviour("13.23", off=row(LIVE, affective_dialog="allowed"))
def test_affective_dialog_on_3_8_is_noticed_at_the_first_message() -> None:
    affective = {"enableAffectiveDialog": True}
    caller = Caller(LIVE, generationConfig=affective)
    with pytest.raises(Refusal) as caught:
        caller.ask("hello")
    assert (caught.value.code, caught.value.text) == (1007, INVALID)
    assert refused(FLASH, generationConfig=affective) == INVALID
    assert not setup(NATIVE, generationConfig=affective).broken_by_affective_dialog
    assert not setup(LIVE, backend="vertex", generationConfig=affective).broken_by_affective_dialog


@behaviour("10.14", off=patched("emulator.configuration.setup._check_proactivity", lambda *_: None))
def test_proactive_audio_cannot_be_turned_off_where_it_always_is_on() -> None:
    def proactive(model: str, value: bool) -> dict[str, Any]:
        return {"model": model, "version": "v1alpha", "proactivity": {"proactiveAudio": value}}

    for model in (LIVE, THINKING):
        setup(**proactive(model, True))
        assert refused(**proactive(model, False)) == INVALID
    assert refused(**proactive(FLASH, True)) == "Proactive audio is not supported for this model."
    for value in (True, False):
        setup(**proactive(NATIVE, value))


# Tools


@behaviour(
    "2.4.17",
    "10.14",
    off=patched("emulator.configuration.declared._blocking", lambda behavior, _: behavior != "NON_BLOCKING"),
)
def test_blocking_is_the_models_to_allow() -> None:
    def blocking(model: str) -> list[bool]:
        declared = functions({}, {"behavior": "BLOCKING"}, {"behavior": "NON_BLOCKING"}, {"behavior": 0})
        return [one.blocking for one in setup(model, **declared).functions.values()]

    assert blocking(LIVE) == [False, True, False, False]
    assert blocking(FLASH) == [True, True, True, True]
    assert blocking(NATIVE) == [True, True, False, True]
    for behavior in ({"behavior": "BLOCKING"}, {}):
        text = refused(THINKING, **functions({"behavior": "NON_BLOCKING"}, behavior))
        assert text == "BLOCKING function calls are not supported for this model."
    assert not setup(THINKING, **functions({"behavior": "NON_BLOCKING"})).functions["f0"].blocking


@behaviour("setup.declarations", off=patched("emulator.configuration.declared._check_schema", lambda *_: None))
def test_an_array_declares_its_items() -> None:
    items = {"type": "ARRAY"}
    nested = {"type": "object", "properties": {"list": {"type": "array", "items": {"anyOf": [items]}}}}
    assert refused(**functions({}, {"parameters": nested})) == (
        "* BidiGenerateContentRequest.setup.tools[0].function_declarations[1].parameters.properties[list].items"
        ".any_of[0].items: missing field.\n"
    )
    # What comes as JSON Schema is not looked into.
    assert setup(**functions({"parametersJsonSchema": items})).functions["f0"].schema == items


def test_functions_have_names_of_their_own() -> None:
    assert refused(**functions({"name": "f"}, {"name": "f"})) == "Duplicate function declaration found: f"
    for name in ("", "1st", "with space", "x" * 129):
        assert "function_declarations[0].name: Invalid function name." in refused(**functions({"name": name}))
    assert list(setup(**functions({"name": "ns:do.it-now_2"}, {})).functions) == ["ns:do.it-now_2", "f1"]
    assert refused(**functions({"parametersJsonSchema": "x"})) == INVALID


# Hearing and remembering


def test_detection_is_read_and_sensitivity_defaults_by_backend() -> None:
    wanted = {"silenceDurationMs": 300, "prefixPaddingMs": 20, "endOfSpeechSensitivity": "END_SENSITIVITY_LOW"}
    detection = setup(realtimeInputConfig={"automaticActivityDetection": wanted}).detection
    assert (detection.silence_ms, detection.prefix_ms) == (300, 20)
    assert (detection.easy_start, detection.easy_end) == (True, False)
    assert not setup(backend="vertex", version="v1").detection.easy_start
    for name, field in (("silenceDurationMs", "silence_duration_ms"), ("prefixPaddingMs", "prefix_padding_ms")):
        assert refused(realtimeInputConfig={"automaticActivityDetection": {name: -1}}) == (
            "* BidiGenerateContentRequest.setup.realtime_input_config.automatic_activity_detection."
            f"{field}: {field} must not be negative\n"
        )


def test_transcription_is_read_in_its_old_and_its_new_form() -> None:
    new = {"languageCodes": ["de-DE"], "customVocabulary": ["Parley"], "mode": "SMART"}
    assert setup(inputAudioTranscription=new).transcription == Transcription(("de-DE",), ("Parley",), smart=True)
    old = {"languageHints": {"languageCodes": ["de-DE"]}, "adaptationPhrases": ["Parley"]}
    assert setup(inputAudioTranscription=old).transcription == Transcription(("de-DE",), ("Parley",))
    assert setup(inputAudioTranscription={}).input_transcription
    assert not setup(outputAudioTranscription={}).input_transcription


@behaviour("2.4.26", off=row(FLASH, null_handle="unset"))
def test_a_null_handle_is_refused_by_3_1() -> None:
    null = {"sessionResumption": {"handle": None}}
    assert refused(FLASH, **null) == INVALID
    for model in (LIVE, NATIVE):
        config = setup(model, **null)
        assert (config.resumable, config.handle) == (True, None)
    assert setup(FLASH, sessionResumption={}).resumable
    assert not setup(FLASH).resumable


def test_compression_is_read_for_the_models_window() -> None:
    def compressed(model: str, **fields: Any) -> Compression | None:
        return setup(model, contextWindowCompression=fields).compression

    assert setup().compression is None
    assert compressed(LIVE) == Compression(104_857, 52_428)
    assert compressed(LIVE, triggerTokens="25000", slidingWindow={"targetTokens": 8e3}) == Compression(25_000, 8_000)
    assert refused(LIVE, backend="vertex", contextWindowCompression={"triggerTokens": 4_999}) == INVALID


# Messages after the setup


@behaviour("10.44", "2.4.16", off=row(FLASH, media_chunks=True))
def test_media_chunks_are_read_by_2_5_only() -> None:
    chunks = {"mediaChunks": [{"data": "AAA=", "mimeType": "audio/pcm;rate=16000"}]}
    assert Caller(NATIVE).send(realtimeInput=chunks) == []
    with pytest.raises(Refusal) as caught:
        Caller(FLASH).send(realtimeInput=chunks)
    assert caught.value.text == "realtime_input.media_chunks is deprecated. Use audio, video, or text instead."


@behaviour("10.26", off=patched("emulator.configuration.setup.Config.with_tools", lambda self, tools: self))
def test_a_context_update_replaces_what_it_names_and_keeps_the_rest() -> None:
    declared = functions({"name": "get_weather"})
    caller = Caller(LIVE, **declared, systemInstruction={"parts": [{"text": "first"}]})

    def config() -> tuple[str, list[str]]:
        now = caller.mind._config
        return now.instructions, list(now.functions)

    caller.send(contextUpdate={"systemInstruction": {"parts": [{"text": "second"}]}})
    assert config() == ("second", ["get_weather"])
    caller.send(contextUpdate={"tools": {"tools": functions({"name": "other"})["tools"]}})
    assert config() == ("second", ["other"])
    caller.send(contextUpdate={"tools": {}})
    assert config() == ("second", [])
    with pytest.raises(Refusal, match=r"context_update.tools.tools\[0\].function_declarations\[0\].name"):
        caller.send(contextUpdate={"tools": {"tools": functions({"name": ""})["tools"]}})


@behaviour("setup.context_update", off=row(NATIVE, context_update=True))
def test_a_context_update_is_taken_where_that_is_known() -> None:
    update = {"systemInstruction": {"parts": [{"text": "x"}]}}
    for model, chosen in ((LIVE, "model"), (NATIVE, "accepted")):
        assert Caller(model, switches={"context_update": chosen}).send(contextUpdate=update) == []
    for model, chosen in ((NATIVE, "model"), (LIVE, "refused")):
        with pytest.raises(Refusal, match=r"^1007 Request contains an invalid argument"):
            Caller(model, switches={"context_update": chosen}).send(contextUpdate=update)


# Over a socket


@pytest.mark.asyncio(loop_scope="module")
@behaviour("10.9", off=patched("emulator.texts.SETUP_FIRST", texts.INVALID_ARGUMENT))
async def test_the_setup_comes_first_and_once(here: Here) -> None:
    for frames in ([HELLO], [SETUP, SETUP]):
        async with Socket(here) as client:
            for frame in frames:
                await client.send(frame)
            assert await client.closed() == (1007, "setup must be the first message and only the first")


@pytest.mark.asyncio(loop_scope="module")
@behaviour("10.15", off=without(session_id="no"))
async def test_setup_complete_can_carry_a_session_id(here: Here, switches: dict[str, Any]) -> None:
    async with Socket(here, conversation="named", **{"session_id": "yes", **switches}) as client:
        await client.send(SETUP)
        assert await client.next() == {"setupComplete": {"sessionId": "named"}}
    async with Socket(here) as client:
        await client.send(SETUP)
        assert await client.next() == {"setupComplete": {}}


@pytest.mark.asyncio(loop_scope="module")
@behaviour("10.11", off=without(strict="yes"))
async def test_what_the_api_does_not_have_is_passed_over_on_request(here: Here, switches: dict[str, Any]) -> None:
    async with Socket(here, **{"strict": "no", **switches}) as client:
        await client.send({"setup": {**SETUP["setup"], "brandNew": {"a": 1}}}, {"brandNew": {}}, HELLO)
        assert await client.next() == {"setupComplete": {}}
        assert "serverContent" in await client.next()
