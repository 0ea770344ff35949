"""A setup checked against its model's rules: what this connection is, or why it is refused."""

from dataclasses import dataclass, field, replace
from typing import Any

from emulator import models, texts
from emulator.api.protocol import Content, content
from emulator.configuration import compression, declared, generation
from emulator.configuration.compression import Compression
from emulator.configuration.declared import Function
from emulator.configuration.generation import Generation
from emulator.errors import invalid
from emulator.switches import Switches

__all__ = ["Config", "Detection", "Function", "Transcription", "accept"]

_COVERAGES: dict[str, models.Coverage] = {
    "TURN_INCLUDES_ONLY_ACTIVITY": "only activity",
    "TURN_INCLUDES_ALL_INPUT": "all input",
    "TURN_INCLUDES_AUDIO_ACTIVITY_AND_ALL_VIDEO": "audio activity and all video",
}
_DETECTION = "realtime_input_config.automatic_activity_detection"


@dataclass(frozen=True)
class Detection:
    """Automatic activity detection as far as the setup speaks of it; None leaves it to the emulator's settings."""

    manual: bool = False
    silence_ms: int | None = None
    prefix_ms: int | None = None
    easy_start: bool = True
    easy_end: bool = True


@dataclass(frozen=True)
class Transcription:
    """How speech is to be transcribed; the emulator heeds none of it but tells it."""

    languages: tuple[str, ...] = ()
    """Empty: whatever is spoken."""
    vocabulary: tuple[str, ...] = ()
    smart: bool = False
    """Without hesitations and slips, instead of word for word."""


@dataclass(frozen=True)
class Config:
    """What a connection was set up with, and what context updates made of it since."""

    model: str
    rules: models.Rules
    switches: Switches = field(default_factory=Switches)
    vertex: bool = False
    generation: Generation = field(default_factory=Generation)
    functions: dict[str, Function] = field(default_factory=dict)
    instructions: str = ""
    input_transcription: bool = False
    output_transcription: bool = False
    transcription: Transcription = Transcription()
    """Of input."""
    interim_timestamps: bool = False
    """Whether interim transcripts are wanted, with their place in the audio."""
    explicit_vad: bool = False
    """Whether the beginnings and ends of speech are told (Vertex)."""
    turn_coverage: models.Coverage = "audio activity and all video"
    detection: Detection = Detection()
    interruptible: bool = True
    seeds_history: bool = False
    """The first client content is history and is not answered."""
    compression: Compression | None = None
    resumable: bool = False
    transparent: bool = False
    """Whether handles come with the index of the last client message that they cover (Vertex)."""
    handle: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    broken_by_affective_dialog: bool = False
    """The first message after the setup is refused."""

    @property
    def media_resolution(self) -> str:
        """LOW, MEDIUM, HIGH, or empty where the setup does not say."""
        return self.generation.media_resolution

    @property
    def updatable(self) -> bool:
        """Whether a context update is taken."""
        wanted = self.switches.context_update
        return self.rules.context_update if wanted == "model" else wanted == "accepted"

    def with_tools(self, tools: list[dict[str, Any]]) -> "Config":
        """With other tools; raises as the setup would."""
        return replace(self, functions=declared.functions(tools, self.rules, "context_update.tools"))

    def with_instructions(self, instructions: Content) -> "Config":
        """With other system instructions."""
        return replace(self, instructions=instructions.text)


def accept(body: dict[str, Any], *, backend: str, api_version: str, switches: Switches | None = None) -> Config:
    """The configuration that a parsed setup asks for. Raises :class:`emulator.errors.Refusal`."""
    switches = switches or Switches()
    side: models.Backend = "vertex" if backend == "vertex" else "developer"
    model = body.get("model", "")
    if not model:
        raise texts.MODEL_MISSING.refusal()
    if api_version not in switches.api_versions:
        raise models.not_found(model, api_version, side)
    name, rules = models.find(model, api_version, side)
    if rules.kind == "translation":
        raise texts.NOT_EMULATED.refusal(what="translation, which is all that this model does")
    wanted = generation.read(body.get("generationConfig", {}), model, rules)
    _check_proactivity(body.get("proactivity", {}), rules)
    resumption = body.get("sessionResumption", {})
    if "handle" in resumption and resumption["handle"] is None and rules.null_handle == "refused":
        raise invalid()
    realtime = body.get("realtimeInputConfig", {})
    return Config(
        model=name,
        rules=rules,
        switches=switches,
        vertex=side == "vertex",
        generation=wanted,
        functions=declared.functions(body.get("tools", []), rules),
        instructions=content(body.get("systemInstruction", {})).text,
        input_transcription="inputAudioTranscription" in body,
        output_transcription="outputAudioTranscription" in body,
        transcription=_transcription(body.get("inputAudioTranscription", {})),
        interim_timestamps=realtime.get("interimTranscriptTimestampEnabled", False),
        explicit_vad=body.get("explicitVadSignal", False),
        turn_coverage=_COVERAGES.get(realtime.get("turnCoverage", ""), rules.turn_coverage),
        detection=_detection(realtime.get("automaticActivityDetection", {}), rules),
        interruptible=realtime.get("activityHandling") != "NO_INTERRUPTION",
        seeds_history=body.get("historyConfig", {}).get("initialHistoryInClientContent", False),
        compression=compression.read(
            body.get("contextWindowCompression"), window=rules.context_tokens, vertex=side == "vertex"
        ),
        resumable="sessionResumption" in body,
        transparent=resumption.get("transparent", False),
        handle=resumption.get("handle") or None,
        labels=body.get("labels", {}),
        broken_by_affective_dialog=wanted.affective and rules.affective_dialog == "refused at first send",
    )


def _check_proactivity(proactivity: dict[str, Any], rules: models.Rules) -> None:
    if not proactivity:
        return
    if rules.proactivity == "unknown":
        raise texts.PROACTIVITY_REFUSED.refusal()
    if rules.proactivity == "always" and proactivity.get("proactiveAudio") is False:
        raise invalid()


def _transcription(body: dict[str, Any]) -> Transcription:
    hints = body.get("languageHints", {}).get("languageCodes", [])
    return Transcription(
        languages=tuple(body.get("languageCodes", hints)),
        vocabulary=tuple(body.get("customVocabulary", body.get("adaptationPhrases", []))),
        smart=body.get("mode") == "SMART",
    )


def _detection(body: dict[str, Any], rules: models.Rules) -> Detection:
    for name in ("silenceDurationMs", "prefixPaddingMs"):
        generation.limit(body, name, _DETECTION, 0, float("inf"), rule=generation.NOT_NEGATIVE)
    return Detection(
        manual=body.get("disabled", False),
        silence_ms=body.get("silenceDurationMs"),
        prefix_ms=body.get("prefixPaddingMs"),
        easy_start=_last_word(body.get("startOfSpeechSensitivity"), ("HIGH", "LOW"), rules.sensitivity) == "HIGH",
        easy_end=_last_word(body.get("endOfSpeechSensitivity"), ("HIGH", "LOW"), rules.sensitivity) == "HIGH",
    )


def _last_word(value: Any, known: tuple[str, ...], default: str) -> str:
    """HIGH of ``START_SENSITIVITY_HIGH``."""
    level = str(value).rsplit("_", 1)[-1]
    return level if level in known else default
