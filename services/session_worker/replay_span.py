"""The span of what a new link is given again, as it was, before anything new."""

from __future__ import annotations

from opentelemetry.context import Context

from services.fabric import names
from services.session_worker.session_trace import SessionTrace


class ReplaySpan:
    """Of one replay, which begins now."""

    def __init__(self, session_trace: SessionTrace, parent: Context, items: int, seconds: float) -> None:
        """`seconds`: how long the audio in it sounds."""
        self._span = session_trace.start(names.SPAN_REPLAY, parent=parent, vital=True)
        self._span.set_attributes({names.REPLAY_ITEMS: items, names.REPLAY_AUDIO_SECONDS: round(seconds, 3)})

    def end(self, *, complete: bool) -> None:
        """It is over; `complete`: the link was given all of it."""
        self._span.set_attribute(names.REPLAY_COMPLETE, complete)
        self._span.end()
