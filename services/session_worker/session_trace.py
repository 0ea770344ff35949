"""Which trace the spans of a session belong to, and how many of them there are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.util.types import AttributeValue

from parley.v1 import fabric_pb2
from services.fabric import logs, names, telemetry
from services.fabric.span_budget import SpanBudget
from services.fabric.traces import span_id

MOST: Final = 22
"""Spans a minute of one session, those of its tool calls in the tools service among them. With what gateways add there
are at most 25."""
_RESERVE: Final = 4
"""Of them: for what tells why a call paused or ended."""
CALL_SPANS: Final = 2
"""Spans of one tool call: one here, one in the tools service."""


class SessionTrace:
    """Makes the spans of one session. Those that there is no room for are counted on the next one."""

    def __init__(self, spec: fabric_pb2.OpenSession, longest: float) -> None:
        """`longest`: seconds after which the session goes on in another trace."""
        self._attributes: dict[str, AttributeValue] = {
            names.SESSION_ID: spec.session_id,
            names.TENANT: spec.tenant,
            names.PROFILE: spec.profile,
            names.GEN_AI_MODEL: spec.config.model,
        }
        self._longest = longest
        self._budget = SpanBudget(MOST, reserve=_RESERVE)
        self._began = time.monotonic()
        self.context = Context()
        """What spans of the session lie under that have no other parent."""
        self.log_id = ""
        """Id of the trace that lines about the session in the log belong to."""
        self.part = 1
        """Which of the session's traces it is."""

    @property
    def age(self) -> float:
        """Of the trace, in seconds."""
        return time.monotonic() - self._began

    def begin(self, context: Context, *, part: int = 1, age: float = 0.0) -> None:
        """The session belongs to this trace, which is so old."""
        self.part, self._began = max(1, part), time.monotonic() - age
        self._belong_to(context)

    def _belong_to(self, context: Context) -> None:
        self.context = context
        self.log_id = logs.follow(str(self._attributes[names.SESSION_ID]), context)

    def start(
        self,
        name: str,
        *,
        kind: trace.SpanKind = trace.SpanKind.INTERNAL,
        parent: Context | None = None,
        began: float | None = None,
        links: Sequence[trace.Link] = (),
        attributes: Mapping[str, AttributeValue] | None = None,
        spans: int = 1,
        vital: bool = False,
    ) -> trace.Span:
        """A span, to be ended by the caller; one that records nothing where there is no room for it.

        `parent`: default: the session's. `began`: monotonic seconds, default: now. `spans`: how many it stands for,
        with those that are made elsewhere under it. `vital`: it tells why a call paused or ended.
        """
        parent = self.context if parent is None else parent
        now = time.monotonic()
        if not self._budget.takes(now, spans, vital=vital):
            return telemetry.unrecorded(parent)
        start = None if began is None else time.time_ns() - round((now - began) * 1e9)
        span = telemetry.tracer().start_span(name, parent, kind, links=links, start_time=start)
        span.set_attributes({**self._attributes, **(attributes or {})})
        if skipped := self._budget.take_skipped():
            span.set_attribute(names.SPANS_SKIPPED, skipped)
        return span

    @contextmanager
    def span(
        self,
        name: str,
        *,
        kind: trace.SpanKind = trace.SpanKind.INTERNAL,
        parent: Context | None = None,
        began: float | None = None,
        links: Sequence[trace.Link] = (),
        attributes: Mapping[str, AttributeValue] | None = None,
        spans: int = 1,
        vital: bool = False,
    ) -> Iterator[trace.Span]:
        """The same, as the current span, ended here; an exception is its status."""
        span = self.start(
            name,
            kind=kind,
            parent=parent,
            began=began,
            links=links,
            attributes=attributes,
            spans=spans,
            vital=vital,
        )
        with trace.use_span(span, end_on_exit=True, record_exception=False):
            yield span

    def stand_in(
        self, name: str, traceparent: str, parent: Context, attributes: Mapping[str, AttributeValue]
    ) -> Context:
        """A span in place of one that died with its worker, with the id of that one, so that what happened under it
        hangs together; returns its context, or `parent` where there was none. It takes no time: only its worker knew
        when the lost one began."""
        lost = telemetry.span_context(telemetry.context_from({telemetry.TRACEPARENT: traceparent}))
        if not lost.is_valid or lost.trace_id != telemetry.span_context(parent).trace_id:
            return parent
        with span_id(lost.span_id):
            span = self.start(name, parent=parent, attributes={**attributes, names.STAND_IN: True}, vital=True)
        span.set_status(trace.StatusCode.ERROR, "its worker died")
        span.end()
        return trace.set_span_in_context(span, parent)

    def attached(self, context: Context) -> None:
        """A stream was attached that was opened in this context: it is what the session belongs to from now on."""
        old, new = telemetry.span_context(self.context), telemetry.span_context(context)
        if not new.is_valid or new == old:
            return
        before = self.context
        self._belong_to(context)
        if old.is_valid and old.trace_id != new.trace_id:
            self._link(before, context)
            self.part, self._began = self.part + 1, time.monotonic()

    def roll_over(self, began: float) -> None:
        """Go on in another trace if this one is old, from then on (monotonic seconds): a turn that begins."""
        old = telemetry.span_context(self.context)
        if self.age < self._longest or not (old.is_valid and old.trace_flags.sampled):
            return
        links = [trace.Link(old)]
        root = self.start(names.SPAN_ROLLOVER, parent=Context(), began=began, links=links, vital=True, spans=2)
        if not root.is_recording():
            return  # no room, or the sampler wants none of it: rather a long trace than half a conversation
        root.set_attribute(names.TRACE_PART, self.part + 1)
        root.end()
        last = telemetry.tracer().start_span(
            names.SPAN_ROLLOVER, self.context, links=[trace.Link(root.get_span_context())]
        )
        last.set_attributes({**self._attributes, names.TRACE_PART: self.part})
        last.end()
        self.begin(trace.set_span_in_context(root, Context()), part=self.part + 1)

    def _link(self, before: Context, after: Context) -> None:
        """Both traces tell of each other."""
        for context, other, part in ((before, after, self.part), (after, before, self.part + 1)):
            links = [trace.Link(telemetry.span_context(other))]
            span = self.start(names.SPAN_ROLLOVER, parent=context, links=links, vital=True)
            span.set_attribute(names.TRACE_PART, part)
            span.end()
