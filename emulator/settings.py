"""Every setting of the emulator, read from ``PARLEY_EMULATOR_*``."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h)?\s*")


def _duration(value: Any) -> Any:
    """``500ms``, ``2.5s``, ``10m``, ``2h`` or bare seconds; whatever else pydantic takes for a timedelta."""
    if isinstance(value, str) and (found := _DURATION.fullmatch(value)):
        return timedelta(seconds=float(found.group(1)) * _UNITS[found.group(2) or "s"])
    return value


def _listed(value: Any) -> Any:
    """Comma-separated text as a list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Listed = BeforeValidator(_listed)


class EmulatorSettings(BaseSettings):
    """What the emulator can be told from outside; durations are ``500ms``, ``2s``, ``10m``, ``2h`` or ISO 8601."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_EMULATOR_", frozen=True)

    host: str = Field("127.0.0.1", description="Address the Live endpoint listens on (TLS).")
    port: int = Field(0, ge=0, le=65535, description="TCP port of the Live endpoint; 0 chooses a free one.")
    control_host: str = Field("127.0.0.1", description="Address of the control API (plain HTTP, no authentication).")
    control_port: int = Field(0, ge=0, le=65535, description="TCP port of the control API; 0 chooses a free one.")
    ca_file: Path | None = Field(
        None,
        description="File (PEM) that the certificate of the emulator's own authority is written to at start; "
        "unset puts it into a temporary folder that is removed at the end.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe log lines that are written to stderr, one JSON object a line."
    )

    api_keys: Annotated[list[SecretStr], NoDecode, Listed] = Field(
        default_factory=list,
        description="Keys and tokens that are accepted, separated by commas; empty accepts any that is not empty.",
    )
    wrong_key: Literal["close", "http"] = Field(
        "close",
        description="How a wrong key is refused: `close` upgrades and closes with 1007, `http` answers 401.",
    )
    strict: bool = Field(True, description="Whether a field that the API does not know is refused with 1007.")

    scenario: str = Field(
        "support", description="What the model knows: the name of a packaged scenario, or the path of a YAML file."
    )
    scenarios: Annotated[list[Path], NoDecode, Listed] = Field(
        default_factory=list,
        description="More scenario files, separated by commas, for the header x-emulator-scenario to choose from.",
    )

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
    hearing_doubt: float = Field(
        3.6,
        gt=0,
        description="Mean acoustic cost a 10 ms frame (nats; a known sentence costs 1 to 2.6, others more than 4.5) "
        "above which what was heard is not taken for one of the scenario's sentences.",
    )
    hearing_queue: int = Field(
        256, ge=1, description="Utterances that may wait for the recogniser; one more is not understood."
    )
    hearing_timeout: Duration = Field(
        timedelta(seconds=20), gt=timedelta(0), description="Time after which an utterance is not understood."
    )

    handle_ttl: Duration = Field(
        timedelta(hours=2), gt=timedelta(0), description="Life of a resumption handle after it was last issued or used."
    )
    handle_limit: int = Field(20_000, ge=1, description="Resumption handles kept; the oldest is forgotten first.")

    setup_timeout: Duration = Field(
        timedelta(seconds=10), gt=timedelta(0), description="Time a client has, once connected, to send its setup."
    )
    close_timeout: Duration = Field(
        timedelta(seconds=2), gt=timedelta(0), description="Time a client has to answer a close frame."
    )
    max_frame_bytes: int = Field(
        8 * 1024 * 1024, ge=1024, description="Largest client frame, in bytes; a larger one closes with 1009."
    )
    outbox_bytes: int = Field(
        4 * 1024 * 1024,
        ge=1024,
        description="Bytes that may wait for a client that does not read; at one more its connection is dropped.",
    )

    kept_conversations: int = Field(
        1000, ge=1, description="Ended conversations whose record is kept; the oldest is forgotten first."
    )
    kept_items: int = Field(
        5000, ge=1, description="Entries kept in each list of a record; further ones are only counted."
    )
    keep_audio: bool = Field(
        False, description="Whether the record keeps the audio heard, for GET /conversations/{id}/audio."
    )
    kept_audio_bytes: int = Field(
        16 * 1024 * 1024, ge=1, description="Bytes of audio kept of one conversation where keep_audio is on."
    )
