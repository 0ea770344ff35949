"""Every setting of the emulator, read from ``PARLEY_EMULATOR_*``."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from emulator.durations import Duration
from emulator.switches import Listed, Switches


class EmulatorSettings(Switches, BaseSettings):
    """What the emulator can be told from outside: what concerns all connections, and the defaults of the switches."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_EMULATOR_", frozen=True)

    host: str = Field("127.0.0.1", description="Address the Live endpoint listens on (TLS).")
    port: int = Field(0, ge=0, le=65535, description="TCP port of the Live endpoint; 0 chooses a free one.")
    plain_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="TCP port where the Live endpoint also listens without TLS, for clients that can do without (the "
        "JavaScript SDK with an http:// base URL, browsers); 0 chooses a free one, unset listens on none.",
    )
    control_host: str = Field("127.0.0.1", description="Address of the control API (plain HTTP, no authentication).")
    control_port: int = Field(0, ge=0, le=65535, description="TCP port of the control API; 0 chooses a free one.")
    ca_file: Path | None = Field(
        None,
        description="File (PEM) that the certificate of the emulator's own authority is written to at start; "
        "unset puts it into a temporary folder that is removed at the end.",
    )
    certificate_names: Annotated[list[str], NoDecode, Listed] = Field(
        default_factory=list,
        description="Names and addresses, separated by commas, that the certificate of the emulator's own authority is "
        "for, beside localhost: those that clients on other machines connect to.",
    )
    certificate_file: Path | None = Field(
        None,
        description="File (PEM) with a key and its certificates that is shown instead of one of the emulator's own "
        "authority; then nothing is written to ca_file.",
    )
    processes: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that serve together, for thousands of connections: each has recognisers of its own, and "
        "max_connections and what is kept (handles, conversations) count for each; quota, tokens and faults for all.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe log lines that are written to stderr, one JSON object a line."
    )

    api_keys: Annotated[list[SecretStr], NoDecode, Listed] = Field(
        default_factory=list,
        description="Keys and tokens that are accepted, separated by commas; empty accepts any that is not empty.",
    )
    scenario: str = Field(
        "support", description="What the model knows: the name of a packaged scenario, or the path of a YAML file."
    )
    scenarios: Annotated[list[Path], NoDecode, Listed] = Field(
        default_factory=list,
        description="More scenario files, separated by commas, for the header x-emulator-scenario to choose from.",
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
    hearing_queue_bytes: int = Field(
        64 * 1024 * 1024, ge=1024, description="Bytes of audio that may wait for the recogniser in all."
    )
    hearing_timeout: Duration = Field(
        timedelta(seconds=20),
        gt=timedelta(0),
        description="Time after which an utterance is not understood; a recogniser that has answered nothing for so "
        "long is replaced.",
    )
    hearing_processes: int = Field(
        1,
        ge=1,
        le=64,
        description="Recognisers, each a process of 60 MB (160 MB once the vocabulary is open) that understands some "
        "thirty utterances a second (two to four, open).",
    )
    hearing_remembered: int = Field(
        4096,
        ge=0,
        description="Utterances whose outcome is remembered: whoever plays the same recording again, sample for sample "
        "and cut alike, is understood at once and at no cost. 0 asks a recogniser every time.",
    )

    quota: int = Field(
        0,
        ge=0,
        description="Connections that one API key (it stands for a project) may have open; 0 is no limit. One more is "
        "answered 429, or closed with 1011 where the switch over_quota says so.",
    )
    vertex_quota: int = Field(
        1000, ge=0, description="The same on Vertex, which documents 1,000 for a project that pays as it goes."
    )
    handle_limit: int = Field(20_000, ge=1, description="Resumption handles kept; the oldest is forgotten first.")
    token_limit: int = Field(
        10_000, ge=1, description="Ephemeral tokens kept; while none of them has expired, no more are made (429)."
    )

    seed: int | None = Field(
        None,
        description="Seed of everything left to chance (whether a fault strikes, when goAway comes, ids of calls); "
        "unset draws one, which the ready line tells.",
    )
    max_connections: int = Field(
        10_000, ge=1, description="Connections that may be open; one more is refused with 503 at the upgrade."
    )
    upgrade_timeout: Duration = Field(
        timedelta(seconds=10),
        gt=timedelta(0),
        description="Time a client has for the TLS handshake, and again for its upgrade request.",
    )
    frozen_limit: Duration = Field(
        timedelta(minutes=30),
        gt=timedelta(0),
        description="Time after which a connection that a fault keeps from being read is dropped after all.",
    )
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
    kept_bytes: int = Field(
        16 * 1024 * 1024,
        ge=1024,
        description="Bytes kept of one record, roughly, audio apart; further entries are only counted.",
    )
    kept_total_bytes: int = Field(
        256 * 1024 * 1024,
        ge=1024,
        description="The same of all records together; those that ended are forgotten early when half of it is taken.",
    )
    keep_audio: bool = Field(
        False, description="Whether the record keeps the audio heard, for GET /conversations/{id}/audio."
    )
    kept_audio_bytes: int = Field(
        16 * 1024 * 1024, ge=1, description="Bytes of audio kept of one conversation where keep_audio is on."
    )
