"""Settings of the gateway: environment variables `PARLEY_GATEWAY_*`."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from services.fabric.settings import Duration, PositiveDuration, ServiceSettings


class GatewaySettings(ServiceSettings):
    """What an operator can choose about a gateway."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_GATEWAY_")

    listen: str = Field("127.0.0.1:50051", description="HOST:PORT for callers (gRPC); port 0: any free one.")
    api_keys_file: str = Field(
        "",
        description="YAML file `keys: [{tenant, principal, sha256, operator}]` of the callers; sha256 is the hex "
        "digest of a key, `operator: true` lets it drain workers. Required unless `development` is on.",
    )
    development: bool = Field(
        False,
        description="Let callers in without a key, as tenant `dev`, and serve gRPC reflection. Never in production.",
    )
    backend: Literal["developer", "vertex"] = Field(
        "developer",
        description="API that the workers' links speak, Gemini Developer API or Vertex AI: what an `open` may ask for "
        "depends on it.",
    )
    profiles_dir: str = Field("", description="Folder of profiles, one YAML file each; empty: no profiles.")
    max_streams: int = Field(1000, ge=1, description="Streams at once; one more is refused with RESOURCE_EXHAUSTED.")
    open_timeout: PositiveDuration = Field(
        timedelta(seconds=10), description="Time a new stream may take to send its first message."
    )
    fabric_wait: Duration = Field(
        timedelta(seconds=8),
        ge=timedelta(0),
        description="Time an open waits for the message bus before it fails with UNAVAILABLE.",
    )
    worker_wait: Duration = Field(
        timedelta(seconds=2),
        ge=timedelta(0),
        description="Time an open waits for a first worker to announce itself before it fails with UNAVAILABLE.",
    )
    place_timeout: PositiveDuration = Field(
        timedelta(seconds=15), description="Time a worker may take to open or attach a session."
    )
    recovery_window: PositiveDuration = Field(
        timedelta(seconds=20),
        description="Time in which a session whose worker is gone must be with another; then its stream ends with "
        "UNAVAILABLE and the caller may resume.",
    )
    audio_ahead: PositiveDuration = Field(
        timedelta(milliseconds=400),
        description="Playing time of audio that is sent beyond what the caller has acked. "
        "Callers that never ack are held back by gRPC's windows only.",
    )
    uplink_ring_bytes: int = Field(
        1024 * 1024, ge=64 * 1024, description="Bytes of uplink kept for each stream until the worker acks it."
    )
    uplink_ring_items: int = Field(
        4096, ge=64, description="Messages of uplink kept for each stream until the worker acks them."
    )
    uplink_outbox_bytes: int = Field(
        512 * 1024,
        ge=64 * 1024,
        description="Bytes of uplink that wait for NATS in each stream. Over it video is shed, then the oldest audio; "
        "when only text is left the caller is held back.",
    )
    uplink_outbox_items: int = Field(1024, ge=16, description="Messages of uplink that wait for NATS in each stream.")
    downlink_queue_bytes: int = Field(
        4 * 1024 * 1024,
        ge=64 * 1024,
        description="Bytes of downlink that wait for each caller. Over it the gateway takes no more from the worker, "
        "whose ring keeps it.",
    )
    downlink_queue_items: int = Field(8192, ge=16, description="Messages of downlink that wait for each caller.")
    end_wait: PositiveDuration = Field(
        timedelta(seconds=30),
        description="Time a stream that is over waits for a caller that does not read on, before it is closed.",
    )
    max_watches: int = Field(
        200, ge=1, description="Watches (WatchSession) at once; one more is refused with RESOURCE_EXHAUSTED."
    )
    max_watches_per_tenant: int = Field(
        50,
        ge=1,
        description="Watches at once of one tenant; one more is refused with RESOURCE_EXHAUSTED.",
    )
    watch_check: PositiveDuration = Field(
        timedelta(seconds=5),
        description="Time after which a quiet watch looks whether its session and the message bus are still there.",
    )
    watch_send_timeout: PositiveDuration = Field(
        timedelta(seconds=10),
        description="Time a watcher may take to read; then the watch ends with RESOURCE_EXHAUSTED.",
    )
    sweep_every: PositiveDuration = Field(
        timedelta(minutes=1),
        description="Time between two looks for sessions that have lost their worker and their caller, on average.",
    )
    abandoned_after: PositiveDuration = Field(
        timedelta(minutes=3),
        description="Time that a session without a worker is left for its caller to resume before it is ended; longer "
        "than the resume window of the workers.",
    )
    timeline_retention: PositiveDuration = Field(
        timedelta(hours=24),
        description="How long it is known what happened to a session (`parley session timeline`), also after its end; "
        "as in the workers: whoever is first creates the stream.",
    )
    ended_retention: PositiveDuration = Field(
        timedelta(hours=1),
        description="Time a session that this gateway ended stays visible as ended.",
    )

    @model_validator(mode="after")
    def _callers_are_known(self) -> Self:
        if not self.api_keys_file and not self.development:
            raise ValueError("set PARLEY_GATEWAY_API_KEYS_FILE, or PARLEY_GATEWAY_DEVELOPMENT=true to let everyone in")
        return self
