"""Connecting a session's next link: dialled, set up, and given what it begins with."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.context import Context

from parley.v1 import fabric_pb2
from services.fabric import names
from services.session_worker import live_config
from services.session_worker.closes import link_error
from services.session_worker.link import Dialer, Link, LinkClosedError
from services.session_worker.measured import Dialling
from services.session_worker.restoration import Restoration
from services.session_worker.session_context import SessionContext
from services.session_worker.session_trace import SessionTrace
from services.session_worker.settings import WorkerSettings


class Connecting:
    """How the links of one session are connected."""

    def __init__(
        self,
        spec: fabric_pb2.OpenSession,
        settings: WorkerSettings,
        dialer: Dialer,
        context: SessionContext,
        session_trace: SessionTrace,
    ) -> None:
        self._spec = spec
        self._trace = session_trace
        self._dialer = dialer
        self._context = context
        fill = {"session": spec.session_id, "tenant": spec.tenant, "profile": spec.profile}
        self._headers = {name: value.format_map(fill) for name, value in settings.link_headers.items()}

    async def connect(self, number: int, handle: str, begins_with: Restoration, parent: Context) -> Link:
        """Link `number` (from 1), resumed by `handle` or, where that is empty, from nothing. LinkError when it cannot
        be had, or does not outlive what it is given first."""
        seed = begins_with.seed
        told = 0 if seed is None else len(seed.turns)
        with self._trace.span(names.SPAN_CONNECT, kind=trace.SpanKind.CLIENT, parent=parent, vital=True) as span:
            span.set_attributes({names.LINK: number, names.LINK_TOLD_TURNS: told})
            config = self._context.live_config(handle, self._headers, seeded=seed is not None and seed.as_history)
            rate = live_config.input_rate(self._spec.config)
            with Dialling():
                link = await self._dialer.dial(self._spec.config.model, config, rate)
        try:
            await _tell(link, begins_with)
        except BaseException as error:
            await link.close()
            if isinstance(error, LinkClosedError):
                raise link_error(error.failure, " (on what the session began with)") from error
            raise
        return link


async def _tell(link: Link, what: Restoration) -> None:
    for response in what.closes:
        await link.send_tool_response(response)
    if what.seed is not None and what.seed.turns:
        await link.send_turn(what.seed.turns, turn_complete=what.seed.turn_complete)
    if what.told:
        await link.send_turn(what.told, turn_complete=False)
    if what.asks:
        await link.send_turn(what.question, turn_complete=True)
