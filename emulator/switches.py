"""What can be chosen for each connection: everything that is optional, scaled or ambiguous in the real service.

A switch is set by the environment (``PARLEY_EMULATOR_<NAME>``), before that by the scenario file (``switches:``), and
before that by the client's upgrade request: header or query parameter ``x-emulator-switches`` with
``name=value; name=value``. The defaults are those of the dossier on the live service where sources differ.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, ValidationError
from pydantic_settings import NoDecode

from emulator.durations import Duration


def _listed(value: Any) -> Any:
    """Comma-separated text as a list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Listed = BeforeValidator(_listed)


class SwitchError(Exception):
    """A switch that does not exist or does not take that value; the text says what it takes."""


class Switches(BaseModel):
    """Every switch. Durations are ``500ms``, ``2s``, ``10m``, ``2h`` or ISO 8601."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Time

    time_scale: float = Field(
        1.0,
        gt=0,
        le=100_000,
        description="How much faster than real time limits, handles and tokens age: at 60 a ten-minute connection "
        "lasts ten seconds. `timeLeft` is told in real time. Speech and its detection are not scaled.",
    )

    # Speaking

    generation_speed: float = Field(
        4.0, gt=0, le=1000, description="How many seconds of speech the model produces in one second."
    )
    playback_speed: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="How many seconds of speech the modelled playback takes in one second: turnComplete waits for it.",
    )
    chunk: Duration = Field(
        timedelta(milliseconds=40),
        ge=timedelta(milliseconds=5),
        le=timedelta(seconds=2),
        description="Length of speech in one server frame.",
    )

    # Hearing

    vad_silence: Duration = Field(
        timedelta(milliseconds=500),
        ge=timedelta(milliseconds=20),
        le=timedelta(seconds=10),
        description="Silence that ends an utterance where the setup gives no silenceDurationMs. The service is said to "
        "use about 800 ms; 500 ms is the lower end of what its guide recommends and keeps tests short.",
    )
    vad_prefix: Duration = Field(
        timedelta(milliseconds=60),
        ge=timedelta(0),
        le=timedelta(seconds=2),
        description="Speech that must be heard before an utterance begins where the setup gives no prefixPaddingMs.",
    )
    vad_loudness: float = Field(
        150.0, ge=0, le=32767, description="Root mean square, of 32767, below which a 20 ms frame is never speech."
    )
    max_utterance: Duration = Field(
        timedelta(seconds=30), gt=timedelta(0), description="Length at which an utterance is taken as ended."
    )
    prefix_padding: Literal["both", "look_back", "minimum"] = Field(
        "both",
        description="What prefixPaddingMs means: speech needed before an utterance begins (the API reference), audio "
        "kept from before it (the guide), or both.",
    )
    silence_duration: Literal["honoured", "ignored"] = Field(
        "honoured",
        description="Whether silenceDurationMs counts; users report that 3.1 ignores it and keeps to its own silence.",
    )
    audio_stream_end: Literal["flushed", "ignored"] = Field(
        "flushed",
        description="What audioStreamEnd does to speech under way: ends it at once, as documented and as 3.1 does, or "
        "nothing, as users report of 3.8: then it ends by silence that is sent.",
    )
    stalled_speech: Literal["waits", "ends"] = Field(
        "waits",
        description="A caller that stops sending in mid-speech, without audioStreamEnd: heard on when audio comes "
        "again (users report so), or ended when no audio has come for as long as the silence that ends speech.",
    )
    voice_activity: Literal["model", "barge_in", "always", "never"] = Field(
        "model",
        description="When `voiceActivity` is sent: just before an interruption by speech, at every beginning and end "
        "of speech, or never; `model`: as the model's row says, and always with explicitVadSignal. Users report "
        "`always` of 3.1 and `never` of 3.8.",
    )
    explicit_vad: Literal["activity", "signal", "both"] = Field(
        "activity",
        description="The frames that explicitVadSignal asks for (Vertex): `voiceActivity`, the older "
        "`voiceActivityDetectionSignal`, or both.",
    )
    speech_state: bool = Field(
        False, description="Whether serverContent tells `speechState` SPEECH and NON_SPEECH (Vertex, deprecated)."
    )
    vocabulary: Literal["grammar", "open"] = Field(
        "grammar",
        description="What is understood: the scenario's sentences, in some 30 ms; or any English, in some 300 ms: then "
        "what fits no sentence of the scenario keeps its own transcript.",
    )
    input_transcript: Literal["model", "final", "words", "streamed"] = Field(
        "model",
        description="inputTranscription in one frame, word by word once the utterance is understood, or word by word "
        "while it is spoken; `model`: as the model's row says, `final` or `words`.",
    )
    interim_transcripts: Literal["asked", "always", "never"] = Field(
        "asked",
        description="interimInputTranscription while the caller speaks, each with all words so far: where the setup "
        "has interimTranscriptTimestampEnabled, wherever input is transcribed, or never. The API has no field that "
        "asks for it alone.",
    )
    input_transcript_order: Literal["before", "beside", "after"] = Field(
        "before",
        description="When inputTranscription comes: before the answer, after the answer's first audio, or after its "
        "last. The service guarantees no order.",
    )
    output_transcript_order: Literal["beside", "before", "after"] = Field(
        "beside",
        description="When outputTranscription comes: in the frame of the audio that speaks it, all of it before the "
        "audio (it has been seen to run ahead on Vertex), or after.",
    )
    transcript_finished: bool = Field(
        False, description="Whether the last piece of a transcription carries `finished: true`; it usually does not."
    )
    transcript_language: str = Field(
        "", pattern=r"^([a-z]{2,3}(-[A-Za-z0-9]+)*)?$", description="`languageCode` of transcriptions; empty: none."
    )

    # Upgrade and setup

    api_versions: Annotated[tuple[str, ...], NoDecode, Listed] = Field(
        ("v1", "v1beta", "v1alpha", "v1beta1"),
        description="API versions that are served, separated by commas; another one is refused with 1008 at the setup.",
    )
    wrong_key: Literal["close", "http"] = Field(
        "close",
        description="How a wrong key is refused: `close` upgrades and closes with 1007, `http` answers 401.",
    )
    strict: bool = Field(True, description="Whether a field that the API does not know is refused with 1007.")
    session_id: bool = Field(
        False, description="Whether setupComplete carries a sessionId: the name of the conversation in the record."
    )

    frames: Literal["binary", "text"] = Field(
        "binary", description="Server frames: binary, as the service sends them, or text."
    )
    deflate: bool = Field(
        False,
        description="Whether permessage-deflate is negotiated with clients that offer it; unknown of the service.",
    )

    # Turns

    interaction_status: Literal["nested", "top", "both", "none"] = Field(
        "nested",
        description="Where interactionStatus stands, for models that send it: in serverContent, at the top level, in "
        "both places, nowhere. The Python SDK 3.4.0 reads the nested one and fails on a frame with only the top one.",
    )
    idle_name: Literal["IDLE", "REQUIRES_ACTION"] = Field(
        "IDLE",
        description="What interactionStatus calls an idle model. REQUIRES_ACTION is the deprecated name; at it the "
        "Python SDK's receive() does not end.",
    )
    idle_frame: Literal["with_turn_complete", "alone"] = Field(
        "with_turn_complete",
        description="Whether the status that says the model is idle goes with turnComplete or follows in a frame of "
        "its own, as seen of extended thinking.",
    )
    server_content: Literal["model", "joined", "split"] = Field(
        "model",
        description="Whether one serverContent has speech and its transcription, or each has its own; `model`: as the "
        "model's row says (joined since 3.1).",
    )
    nothing_to_complete: Literal["model", "refused", "answered"] = Field(
        "model",
        description="turnComplete or activityEnd with nothing before it: closes with 1007 `No turn to complete`, or is "
        "answered; `model`: as the model's row says (2.5 refuses).",
    )
    seed_at_once: Literal["model", "answered", "waits"] = Field(
        "model",
        description="A seeded history whose last turn is the user's: answered once complete, or at the next input; "
        "`model`: as the model's row says (2.5 answers: Pipecat and ADK send it nothing more. The SDK's documentation "
        "says that none does).",
    )
    seed_at_first_audio: Literal["model", "kept", "ignored"] = Field(
        "model",
        description="Whether a first turn that is spoken also answers what the seeded history left open; `model`: as "
        "the model's row says (2.5 ignores it).",
    )
    typed_turn: Literal["accepted", "refused"] = Field(
        "accepted",
        description="client_content after the first turn on 3.1: `refused` closes with 1007, as until June 2026.",
    )

    context_update: Literal["model", "accepted", "refused"] = Field(
        "model",
        description="contextUpdate: taken, or closed with 1007; `model`: as the model's row says (3.8 is documented to "
        "take it, of others nothing is known).",
    )

    # Tools

    blocking_call_completes: Literal["model", "yes", "no"] = Field(
        "model",
        description="Whether a turn that waits for a BLOCKING call says turnComplete at the call too: as the model's "
        "row says, or always, or never. Sources disagree on 2.5; without it some clients wait for ever.",
    )
    late_response: Literal["ignored", "refused"] = Field(
        "ignored",
        description="A function response for an unknown or cancelled call: ignored, or closed with 1007.",
    )
    nameless_response: Literal["accepted", "degraded"] = Field(
        "accepted",
        description="A function response without `name`: taken, or answered with the apology for a failed tool.",
    )
    audio_during_blocking_call: Literal["accepted", "aborted", "not_enabled"] = Field(
        "accepted",
        description="Realtime audio while a BLOCKING call is pending: taken, or closed with 1008 as 2.5 did, with `The "
        "operation was aborted.` or `Operation is not implemented, or supported, or enabled.`",
    )
    cancelled_calls: Literal["blocking", "all"] = Field(
        "blocking",
        description="The calls that an interruption cancels: those that the interrupted turn waits for, or the pending "
        "NON_BLOCKING ones too. The API reference says that pending calls are discarded, and that this happens only "
        "when a turn of the server's is interrupted; a NON_BLOCKING call's own turn is over.",
    )
    call_ids: bool = Field(True, description="Whether function calls carry ids (Vertex has been seen without).")
    lost_calls: Literal["model", "stuck", "forgotten"] = Field(
        "model",
        description="A call that was pending when its link was lost, after a resume: the model stays stuck on it until "
        "it is answered, or has forgotten it; `model` does as the model's row says.",
    )

    # Lifetime

    connection_limit: Duration = Field(
        timedelta(minutes=10), gt=timedelta(0), description="Life of a connection, counted from its setup."
    )
    go_away: Literal["time_left", "bare", "never"] = Field(
        "time_left", description="goAway before the limit: with `timeLeft`, without it, or never."
    )
    go_away_lead: Duration = Field(
        timedelta(seconds=60),
        gt=timedelta(0),
        description="How long before the limit goAway is sent; where that is longer than there is, it is sent at once.",
    )
    go_away_jitter: Duration = Field(
        timedelta(seconds=10),
        ge=timedelta(0),
        description="By how much at most, at random, goAway is sent later, though never after the limit.",
    )
    after_go_away: Literal["normal", "silence"] = Field(
        "normal",
        description="What follows goAway: business as usual, or no frame at all any more until the limit closes.",
    )
    after_limit: Literal["model", "1008", "1011", "reset", "silence", "lazy"] = Field(
        "model",
        description="How a connection ends at its limit: 1008 with the goAway text (3.x), 1011 with the deadline text "
        "(2.5), a TCP reset, silence on an open socket, or not before the client's next message (`lazy`: then as the "
        "model does).",
    )
    audio_session_limit: Duration = Field(
        timedelta(minutes=15),
        gt=timedelta(0),
        description="Life of a session without context compression: the time of all its connections together.",
    )
    video_session_limit: Duration = Field(
        timedelta(minutes=2), gt=timedelta(0), description="The same once a video frame was streamed in it."
    )

    # Resumption

    handle_ttl: Duration = Field(
        timedelta(hours=2),
        gt=timedelta(0),
        description="How long a session can be resumed after its last connection ended (Vertex: 24 h, or some 10 min).",
    )
    handle_scope: Literal["model", "issue", "typed", "close"] = Field(
        "model",
        description="What the newest handle restores (older ones restore theirs): the conversation as it was when the "
        "handle was issued, without what was then being heard (`issue`); with the typed turns that the model has taken "
        "up since (`typed`); or as it was when its connection closed, so that it covers all input (`close`). All are "
        "reported; `model`: `typed`, but `issue` for 2.5, which says that it is not resumable then.",
    )
    handle_interval: Duration = Field(
        timedelta(0),
        ge=timedelta(0),
        description="Handles come after turns; also at this interval, unless it is 0, while no turn and no call is "
        "under way.",
    )
    handle_lag: Duration = Field(
        timedelta(0), ge=timedelta(0), description="Real time by which a handle comes later than what it stands for."
    )
    handles: Literal["sent", "withheld"] = Field("sent", description="Whether handles are sent at all when asked for.")
    lost_handles: Annotated[tuple[PositiveInt, ...], NoDecode, Listed] = Field(
        (), description="Which handles of a connection, counted from 1, are issued and never sent, separated by commas."
    )
    not_resumable: Literal["model", "busy", "never"] = Field(
        "model",
        description="`resumable: false` without a handle: when the model takes up a typed turn (as 2.5 does), whenever "
        "it generates or calls a function (as documented), or never.",
    )
    dead_handle: Literal["1008", "1008 entity", "1007"] = Field(
        "1008",
        description="How a handle that is unknown, too old or somebody else's is refused: 1008 `BidiGenerateContent "
        "session not found`, 1008 `Requested entity was not found.` or 1007 `Invalid session handle`.",
    )
    open_socket: Literal["refused", "accepted"] = Field(
        "refused",
        description="Resuming while the old connection is open: refused with 1011, or taken over, which closes the old "
        "one with 1008.",
    )
    transparent_origin: int = Field(
        0, ge=0, le=1, description="Index of the first client message in `lastConsumedClientMessageIndex`."
    )
    transparent_counts_setup: bool = Field(False, description="Whether the setup counts as the first client message.")

    # Context and usage

    full_context: Literal["refused", "cut"] = Field(
        "refused",
        description="A conversation that outgrows the model's context window without compression: 1007, or its oldest "
        "part is forgotten.",
    )
    silence: Literal["billed", "context", "free"] = Field(
        "billed",
        description="Audio heard beside utterances, where turnCoverage does not include it: paid for in the turn it "
        "was heard in, kept in the context (and paid for in each turn), or neither.",
    )
    usage: Literal["turn", "separate", "empty", "periodic"] = Field(
        "turn",
        description="usageMetadata: in the frame of turnComplete; in a frame of its own after it; there with an empty "
        "serverContent (as 3.1 does); or also with the audio, about once a second.",
    )
    service_tier: str = Field(
        "",
        pattern="^(flex|standard|priority)?$",
        description="`serviceTier` in usageMetadata of the Developer API: flex, standard or priority; empty: none.",
    )

    # Quota

    over_quota: Literal["http", "close"] = Field(
        "http",
        description="A connection more than the setting `quota` allows: answered 429 at the upgrade, or closed with "
        "1011 RESOURCE_EXHAUSTED.",
    )

    def changed(self, values: Mapping[str, Any]) -> Self:
        """With other values. Raises :class:`SwitchError`."""
        if not values:
            return self
        unknown = sorted(set(values) - set(Switches.model_fields))
        if unknown:
            known = ", ".join(sorted(Switches.model_fields))
            raise SwitchError(f"unknown switch {unknown[0][:40]!r}; there are: {known}")
        try:
            checked = Switches.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            raise SwitchError(f"switch {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        return self.model_copy(update={name: getattr(checked, name) for name in values})

    def scaled(self, duration: timedelta) -> float:
        """``duration`` in real seconds."""
        return duration.total_seconds() / self.time_scale


def parse(text: str) -> dict[str, str]:
    """``name=value; name=value`` as a mapping. Raises :class:`SwitchError`."""
    values: dict[str, str] = {}
    for part in text.split(";"):
        if not part.strip():
            continue
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise SwitchError(f"{part.strip()[:40]!r} is not of the form name=value")
        values[name.strip()] = value.strip()
    return values
