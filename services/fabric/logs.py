"""Logs: one JSON object a line on stderr, with the ids of the trace it belongs to.

A line about a session names it (`session`), and the trace of it also where it is written outside of any span."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import structlog
from opentelemetry import trace
from opentelemetry.context import Context

_MOST_FOLLOWED: Final = 20_000
"""Sessions whose traces are known here; more than a process has."""
_followed: dict[str, str] = {}
"""Trace ids by session."""


def follow(session: str, context: Context) -> str:
    """Lines about this session belong to the trace of `context`, unless they are written within another span. The
    trace's id, for `forget`; empty: there is no trace."""
    found = trace.get_current_span(context).get_span_context()
    if not found.is_valid:
        return ""
    _followed[session] = trace_id = format(found.trace_id, "032x")
    if len(_followed) > _MOST_FOLLOWED:
        del _followed[next(iter(_followed))]
    return trace_id


def forget(session: str, trace_id: str) -> None:
    """The session is over here, unless somebody else follows it by now."""
    if _followed.get(session) == trace_id:
        del _followed[session]


def _trace_ids(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = format(context.trace_id, "032x")
        event["span_id"] = format(context.span_id, "016x")
    elif (trace_id := _followed.get(str(event.get("session", "")))) is not None:
        event["trace_id"] = trace_id
    return event


def _hider(hide: Callable[[str], str]) -> Callable[[Any, str, MutableMapping[str, Any]], MutableMapping[str, Any]]:
    def hidden(value: Any) -> Any:
        if isinstance(value, dict):
            return {hidden(key): hidden(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [hidden(item) for item in value]
        text = value if isinstance(value, str) else repr(value)  # as JSON would have it
        return value if (shown := hide(text)) == text else shown

    def process(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {key: hidden(value) for key, value in event.items()}

    return process


def configure(service: str, instance: str, level: str, *, hide: Callable[[str], str] | None = None) -> None:
    """Set up logging of this process; libraries' warnings go the same way. `hide` takes secrets out of every text."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _trace_ids,
            structlog.processors.format_exc_info,
            *(() if hide is None else (_hider(hide),)),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service, instance=instance)
    logging.basicConfig(handlers=[_ToStructlog()], level=logging.WARNING, force=True)


class _ToStructlog(logging.Handler):
    """Standard library records, as the libraries in use write them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a record on."""
        log = structlog.get_logger()
        log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info or None)
