"""What can be chosen for each connection: everything that is optional, scaled or ambiguous in the real service.

A switch is set by the environment (``PARLEY_EMULATOR_<NAME>``), before that by the scenario file (``switches:``), and
before that by the client's upgrade request: header or query parameter ``x-emulator-switches`` with
``name=value; name=value``. The defaults are those of the dossier on the live service where sources differ.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
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
    session_id: bool = Field(False, description="Whether setupComplete carries a sessionId.")

    # Turns

    interaction_status: Literal["nested", "top", "both", "none"] = Field(
        "nested",
        description="Where interactionStatus stands, for models that send it: in serverContent, at the top level, in "
        "both places, nowhere. The Python SDK 3.4.0 reads the nested one and fails on a frame with only the top one.",
    )
    typed_turn: Literal["accepted", "refused"] = Field(
        "accepted",
        description="client_content after the first turn on 3.1: `refused` closes with 1007, as until June 2026.",
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
    audio_during_blocking_call: Literal["accepted", "refused"] = Field(
        "accepted",
        description="Realtime audio while a BLOCKING call is pending: taken, or closed with 1008 as 2.5 did.",
    )
    call_ids: bool = Field(True, description="Whether function calls carry ids (Vertex has been seen without).")
    lost_calls: Literal["model", "stuck", "forgotten"] = Field(
        "model",
        description="A call that was pending when its link was lost, after a resume: the model stays stuck on it until "
        "it is answered, or has forgotten it; `model` does as the model's row says.",
    )

    # Lifetime

    connection_limit: Duration = Field(
        timedelta(minutes=10),
        gt=timedelta(0),
        description="Life of a connection.",
    )
    go_away: Literal["time_left", "bare", "never"] = Field(
        "time_left", description="goAway before the limit: with `timeLeft`, without it, or never."
    )
    go_away_lead: Duration = Field(
        timedelta(seconds=60), gt=timedelta(0), description="How long before the limit goAway is sent."
    )
    go_away_jitter: Duration = Field(
        timedelta(seconds=10), ge=timedelta(0), description="By how much at most, at random, goAway is sent later."
    )
    after_go_away: Literal["normal", "silence"] = Field(
        "normal", description="What follows goAway: business as usual, or no frame at all any more."
    )
    after_limit: Literal["model", "1008", "1011", "reset", "silence"] = Field(
        "model",
        description="How a connection ends at its limit: 1008 with the goAway text (3.x), 1011 with the deadline text "
        "(2.5), a TCP reset, or silence on an open socket.",
    )
    audio_session_limit: Duration = Field(
        timedelta(minutes=15), gt=timedelta(0), description="Life of a session without context compression."
    )
    video_session_limit: Duration = Field(
        timedelta(minutes=2), gt=timedelta(0), description="The same once a video frame was sent."
    )

    # Resumption

    handle_ttl: Duration = Field(
        timedelta(hours=2), gt=timedelta(0), description="Life of a resumption handle after it was last issued or used."
    )
    handle_scope: Literal["issue", "close"] = Field(
        "issue",
        description="What the newest handle restores: the conversation as it was when the handle was issued, or as it "
        "was when its connection closed, so that it covers later input. Both are reported; older ones restore theirs.",
    )
    handle_lag: Duration = Field(
        timedelta(0), ge=timedelta(0), description="Real time by which a handle comes later than what it stands for."
    )
    handles: Literal["sent", "withheld"] = Field("sent", description="Whether handles are sent at all when asked for.")
    not_resumable: Literal["model", "busy", "never"] = Field(
        "model",
        description="`resumable: false` without a handle: when the model takes up a typed turn (as 2.5 does), whenever "
        "it generates or calls a function, or never.",
    )
    dead_handle: Literal["1008", "1008 entity", "1007"] = Field(
        "1008",
        description="How a handle that is unknown or too old is refused: 1008 `BidiGenerateContent session not found`, "
        "1008 `Requested entity was not found.` or 1007 `Invalid session handle`.",
    )
    open_socket: Literal["refused", "accepted"] = Field(
        "refused", description="Resuming while the old connection is open: refused with 1011, or taken over."
    )
    transparent_origin: int = Field(
        0, ge=0, le=1, description="Index of the first client message in `lastConsumedClientMessageIndex`."
    )
    transparent_counts_setup: bool = Field(False, description="Whether the setup counts as the first client message.")

    def changed(self, values: Mapping[str, Any]) -> Self:
        """With other values. Raises :class:`SwitchError`."""
        if not values:
            return self
        unknown = sorted(set(values) - set(Switches.model_fields))
        if unknown:
            raise SwitchError(f"unknown switch {unknown[0]}; there are: {', '.join(sorted(Switches.model_fields))}")
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
