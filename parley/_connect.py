"""Opening a session."""

import itertools
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc

from parley import _grpc, errors
from parley._session import Resume, Session
from parley._tracing import trace_metadata, traceparent_of
from parley._version import __version__
from parley.v1 import live_pb2 as pb
from parley.v1.live_pb2_grpc import LiveServiceStub

CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    # gRPC would otherwise widen its windows until a caller that does not read has minutes of speech queued below it.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 65_536),
    # A service that is gone is noticed within 30 s, also by a send that waits; gateways allow a ping each 5 s. The one
    # timeout counts where TCP gets no answer, the other (else a minute) where only gRPC gets none.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Each channel has a connection of its own, so that a resume does not come to the gateway that was left; of a name
    # with several addresses it tries them in a random order, or it would be the same one each time.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": True}}]})),
    ("grpc.primary_user_agent", f"parley-python/{__version__}"),
)


def open_channel(target: str, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
    """A channel with Parley's options; without credentials it is not encrypted."""
    if credentials is None:
        return _grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
    return _grpc.secure_channel(target, credentials, options=CHANNEL_OPTIONS)


def call_metadata(api_key: str | None, traceparent: str | None = None) -> tuple[tuple[str, str], ...]:
    """Credential and trace context as gRPC metadata. Unauthenticated: a key that no call can carry."""
    if api_key and not (api_key.isascii() and api_key.isprintable()):
        raise errors.Unauthenticated(
            "the API key has characters that keys do not have (the end of a line?)",
            code="UNAUTHENTICATED",
            reason="CREDENTIAL_INVALID",
        )
    credential = [("authorization", f"Bearer {api_key}")] if api_key else []
    return (*credential, *trace_metadata(traceparent))


class Dialer:
    """Starts each stream of a session on a connection of its own, at one address after the other."""

    def __init__(
        self,
        targets: Sequence[str],
        credentials: grpc.ChannelCredentials | None,
        metadata: tuple[tuple[str, str], ...],
    ) -> None:
        self._targets = itertools.cycle(targets)
        self._credentials = credentials
        self._metadata = metadata

    def __call__(self) -> tuple[grpc.aio.Channel, Any]:
        """The connection, and the call on it."""
        channel = open_channel(next(self._targets), self._credentials)
        return channel, LiveServiceStub(channel).Converse(metadata=self._metadata)


@asynccontextmanager
async def connect(
    target: str | Sequence[str],
    *,
    profile: str | None = None,
    config: pb.SessionConfig | None = None,
    resume: Resume | None = None,
    api_key: str | None = None,
    labels: Mapping[str, str] | None = None,
    request_id: str | None = None,
    channel_credentials: grpc.ChannelCredentials | None = None,
    traceparent: str | None = None,
    frame_ms: int = 40,
    open_timeout: timedelta = timedelta(seconds=30),
    close_timeout: timedelta = timedelta(seconds=5),
    max_outage: timedelta | None = None,
) -> AsyncIterator[Session]:
    """Opens a session at a gateway, or attaches to one, for the length of an `async with` block.

    `target` is `HOST:PORT`, or several of them; a name may stand for several addresses. Exactly one of `profile` (a
    name that the operator keeps), `config` and `resume` says what to open. A repeated `request_id` finds the session
    that the first call made; by default it is random. Without `channel_credentials` the connection is not encrypted.
    The trace context is `traceparent` if given, else OpenTelemetry's current one. `frame_ms` is 20 or 40: shorter
    frames are heard a little sooner and cost more.

    The session survives its streams. Where time mends it, an open is repeated within `open_timeout` (within 5 s while
    no gateway answers at all), and a stream that is lost is resumed, each time at the next address, for `max_outage`,
    or (None, and at most) for as long as the service waits, `opened.resume_window`. Zero tries nothing again: the error
    of a stream is that of the session.

    Leaving the block normally ends the session (unless `end` or `half_close` was called) and waits up to
    `close_timeout` for the service to say so; leaving it by an exception cancels the stream, and the session then waits
    for a resume within its window. An error of the stream that the block has not seen yet is raised on leaving.

    Raises `parley.errors`; `DeadlineExceeded` when the session is not open within `open_timeout`; ValueError or
    TypeError for arguments that fit no call.
    """
    targets = [target] if isinstance(target, str) else list(target)
    if not targets:
        raise ValueError("give at least one target")
    if sum(source is not None for source in (profile, config, resume)) != 1:
        raise TypeError("give exactly one of profile, config and resume")
    metadata = call_metadata(api_key, traceparent)
    opening = pb.Open(
        request_id="" if resume else request_id or f"req_{uuid.uuid4().hex}",
        profile=profile,
        config=config,
        traceparent=traceparent_of(metadata),
        labels=labels,
    )
    if resume is not None:
        opening.resume.CopyFrom(
            pb.Resume(
                session_id=resume.session_id,
                resume_token=resume.resume_token,
                last_received_seq=resume.last_received_seq,
            )
        )
    rate = (config.input_sample_rate_hertz if config else 0) or 16_000
    session = Session(
        Dialer(targets, channel_credentials, metadata),
        opening,
        rate=rate,
        frame_ms=frame_ms,
        after=resume.last_received_seq if resume else 0,
        open_timeout=open_timeout,
        close_timeout=close_timeout,
        max_outage=max_outage,
    )
    async with session:
        await session.start(len(targets))
        yield session
