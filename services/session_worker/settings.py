"""Settings of the session worker."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from services.fabric.settings import CaFile, Duration, PositiveDuration, ServiceSettings


class WorkerSettings(ServiceSettings):
    """Environment variables with the prefix PARLEY_WORKER_."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_WORKER_", extra="ignore", frozen=True, validate_default=True)

    capacity: int = Field(100, ge=1, le=10_000, description="Sessions that this worker takes at most.")
    gemini_api_key: SecretStr = Field(
        SecretStr(""), description="Gemini API key. It exists only in workers; the emulator takes any."
    )
    gemini_base_url: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="Endpoint of the Live API as https://HOST[:PORT]; empty: Google's.",
    )
    gemini_ca_file: CaFile = Field(
        "", description="PEM file of the CA to trust for that endpoint; empty: the system's."
    )
    backend: Literal["developer", "vertex"] = Field(
        "developer",
        description="API that links speak: Gemini Developer API, or Vertex AI with the key of its express mode.",
    )
    gemini_api_version: str = Field(
        "v1beta", pattern=r"^v1(beta|alpha)?$", description="Version of the Live API that links dial."
    )
    link_headers: dict[str, str] = Field(
        default_factory=dict,
        description="JSON object of headers for each link (emulators); {session}, {tenant}, {profile} are filled in.",
    )
    link_codec: str = Field(
        "fast",
        pattern="^(fast|sdk)$",
        description="Who encodes and decodes audio on a link: our codec (fast) or google-genai (sdk).",
    )
    dial_timeout: PositiveDuration = Field(
        timedelta(seconds=12), description="Time for connecting a link, set-up included."
    )
    link_age: PositiveDuration | None = Field(
        None, description="Age at which a link is replaced without being told to; unset: only when the service says so."
    )
    handles_cover_later_input: bool = Field(
        False,
        description="Resumption handles restore what their link heard up to its close, not only up to their issue. "
        "Links are pinged up to ten times a second then: what no pong says was heard is given again.",
    )
    rotations_per_second: float = Field(
        5.0,
        gt=0,
        le=1000,
        description="Links that one worker opens in a second at most in place of those that still work, that were "
        "parked, or that it dropped because it was out of touch with NATS.",
    )
    recovery_tries: int = Field(
        20, ge=1, le=1000, description="Links that a session asks for in a row before it fails, when each of them ends."
    )
    recovery_time: PositiveDuration = Field(
        timedelta(seconds=60), description="Time that a session may be without a link before it fails."
    )
    healthy_link: PositiveDuration = Field(
        timedelta(seconds=30), description="Age of a link at which the tries and the time before it are forgotten."
    )
    shutdown_grace: Duration = Field(
        timedelta(seconds=25),
        ge=timedelta(0),
        description="Time after SIGTERM, or `parley worker drain`, in which sessions move to other workers at a quiet "
        "moment; in its last 5 s in whatever state they are. Five seconds later the process is gone.",
    )
    resume_window: PositiveDuration = Field(
        timedelta(minutes=2),
        le=timedelta(hours=2),
        description="How long a session waits for its caller after the stream is gone. Handles live for 2 h.",
    )
    park_after: PositiveDuration = Field(
        timedelta(seconds=20),
        description="How long a session without a caller keeps its link; a turn in progress may take as long again.",
    )
    ownership_ttl: PositiveDuration = Field(
        timedelta(seconds=10),
        ge=timedelta(milliseconds=500),
        description="Time without a round trip to JetStream after which the worker takes its sessions for somebody "
        "else's: they stand still, without links, until it has read the records again.",
    )
    loop_limit: PositiveDuration = Field(
        timedelta(seconds=5),
        ge=timedelta(milliseconds=500),
        description="Time for which the event loop may hang before the process ends itself with status 70.",
    )
    caller_tool_timeout: PositiveDuration = Field(
        timedelta(minutes=5), description="How long a function that the caller runs may take; then the model is told."
    )
    attachment_timeout: PositiveDuration = Field(
        timedelta(seconds=5), description="Silence of a gateway after which its stream counts as gone."
    )
    half_close_wait: PositiveDuration = Field(
        timedelta(seconds=5),
        description="After the caller's half-close: how long the model may stay silent before the stream is let go.",
    )
    record_retention: Duration = Field(
        timedelta(minutes=15),
        ge=timedelta(0),
        le=timedelta(hours=1),
        description="How long the record and the log of an ended session are kept.",
    )
    log_retention: PositiveDuration = Field(
        timedelta(hours=24), description="Age at which the log drops entries of sessions that never ended properly."
    )
    timeline_retention: PositiveDuration = Field(
        timedelta(hours=24),
        description="How long it is known what happened to a session (`parley session timeline`), also after its end; "
        "as in the gateways: whoever is first creates the stream.",
    )
    trace_length: PositiveDuration = Field(
        timedelta(minutes=30),
        description="Age at which a session's trace ends with a turn, and a trace that is linked to it begins.",
    )
    gateway_audio_ahead: PositiveDuration = Field(
        timedelta(seconds=5), description="Audio sent to the gateway beyond what it has passed on, at most."
    )
    downlink_buffer_bytes: int = Field(
        4 * 1024 * 1024,
        ge=64 * 1024,
        description="Bytes kept for a caller that reads slowly; beyond it the oldest audio is dropped and reported.",
    )
    input_audio_buffer: PositiveDuration = Field(
        timedelta(seconds=15),
        description="Caller's audio kept while the link does not take it; beyond it the oldest goes, and speech in it "
        "is reported.",
    )
