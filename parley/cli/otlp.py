"""A small OTLP/gRPC receiver for the demo and for tests: what was exported, as plain values.

async with OtlpReceiver() as receiver:
    ... start something with OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint ...
    await receiver.wait_for(lambda: len(receiver.trace(trace_id)) >= 4)
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.trace.v1 import trace_pb2


@dataclass(frozen=True)
class SpanEvent:
    """Something that happened within a span."""

    name: str
    time_ns: int
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Span:
    """A span with the service that made it. Ids are hexadecimal; times are Unix nanoseconds of the sender's clock."""

    trace_id: str
    span_id: str
    parent_id: str
    """Empty for a root."""
    name: str
    kind: str
    """`INTERNAL`, `SERVER`, `CLIENT`, `PRODUCER` or `CONSUMER`."""
    service: str
    """`service.name` of the resource."""
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]
    events: tuple[SpanEvent, ...]
    links: tuple[tuple[str, str], ...]
    """(trace id, span id) of each."""
    status: str
    """`UNSET`, `OK` or `ERROR`."""
    status_message: str

    @property
    def duration_ms(self) -> float:
        """Milliseconds."""
        return (self.end_ns - self.start_ns) / 1e6


class OtlpReceiver:
    """Listens on a free port of the loopback; keeps the newest `max_spans` spans and counts what it forgot."""

    def __init__(self, *, max_spans: int = 20_000) -> None:
        self.endpoint = ""
        """`http://127.0.0.1:PORT`; known after `start`."""
        self.received = 0
        """Spans received in all."""
        self._spans: deque[Span] = deque(maxlen=max_spans)
        self._server: grpc.aio.Server | None = None
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Listens."""
        server = grpc.aio.server()
        add_TraceServiceServicer_to_server(_Service(self), server)  # type: ignore[no-untyped-call]
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._server = server
        self.endpoint = f"http://127.0.0.1:{port}"

    async def stop(self) -> None:
        """Stops listening; what was received stays."""
        if self._server is not None:
            await self._server.stop(grace=0.5)
            self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def spans(self) -> list[Span]:
        """Everything that is kept, in order of arrival."""
        return list(self._spans)

    @property
    def dropped(self) -> int:
        """Spans that were received and are no longer kept."""
        return self.received - len(self._spans)

    def trace(self, trace_id: str) -> list[Span]:
        """The spans of a trace, by begin."""
        return sorted((span for span in self._spans if span.trace_id == trace_id), key=lambda span: span.start_ns)

    def services(self, trace_id: str) -> set[str]:
        """The services that have a span in a trace."""
        return {span.service for span in self.trace(trace_id)}

    async def wait_for(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        """Returns when `condition` holds; it is looked at after every export. TimeoutError after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def settle(self, quiet: float = 0.8, timeout: float = 5.0) -> None:
        """Returns when nothing has come for `quiet` seconds, or after `timeout` seconds in any case.

        Senders export in batches, twice a second by default: no condition on what is here says that more will come.
        """
        loop = asyncio.get_running_loop()
        give_up = loop.time() + timeout
        while (left := give_up - loop.time()) > 0:
            self._changed.clear()
            try:
                async with asyncio.timeout(min(quiet, left)):
                    await self._changed.wait()
            except TimeoutError:
                return

    def take(self, request: collector.ExportTraceServiceRequest) -> None:
        """Keeps the spans of an export."""
        for group in request.resource_spans:
            resource = _attributes(group.resource.attributes)
            for scope in group.scope_spans:
                for span in scope.spans:
                    self.received += 1
                    self._spans.append(_span(span, resource))
        self._changed.set()


class _Service(TraceServiceServicer):
    def __init__(self, receiver: OtlpReceiver) -> None:
        self._receiver = receiver

    async def Export(  # noqa: N802 - the name is OTLP's
        self, request: collector.ExportTraceServiceRequest, context: Any
    ) -> collector.ExportTraceServiceResponse:
        self._receiver.take(request)
        return collector.ExportTraceServiceResponse()


def _span(span: trace_pb2.Span, resource: Mapping[str, Any]) -> Span:
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        service=str(resource.get("service.name", "")),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_attributes(span.attributes),
        resource=resource,
        events=tuple(SpanEvent(e.name, e.time_unix_nano, _attributes(e.attributes)) for e in span.events),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        status=trace_pb2.Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
        status_message=span.status.message,
    )


def _attributes(pairs: Iterable[common_pb2.KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: common_pb2.AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    content = getattr(value, kind)
    if kind == "array_value":
        return [_value(item) for item in content.values]
    if kind == "kvlist_value":
        return _attributes(content.values)
    return content
