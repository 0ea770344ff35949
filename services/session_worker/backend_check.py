"""Can this worker reach the model, with its own key and settings? For `parley doctor`, which has neither."""

from __future__ import annotations

import asyncio
import time

from parley.v1 import errors_pb2, fabric_pb2, live_pb2
from services.fabric.capabilities import MODELS
from services.fabric.errors import ServiceError
from services.session_worker import live_config, responses
from services.session_worker.link import Dialer
from services.session_worker.settings import WorkerSettings

_NAME = "parley-doctor"
"""In the place of a session's id in the headers of the link."""


class BackendCheck:
    """Connects a link and closes it again, one at a time."""

    def __init__(self, settings: WorkerSettings, dialer: Dialer) -> None:
        self._settings = settings
        self._dialer = dialer
        self._turn = asyncio.Lock()

    async def run(self, request: fabric_pb2.CheckBackend) -> fabric_pb2.BackendChecked:
        """LinkError (BACKEND_*) when the endpoint does not take it; ServiceError while another check runs."""
        if self._turn.locked():
            raise ServiceError(errors_pb2.ERROR_REASON_NO_CAPACITY, "another check runs; ask again in some seconds")
        backend = self._settings.backend
        config = live_pb2.SessionConfig(model=request.model or next(iter(MODELS[backend])))
        fill = {"session": _NAME, "tenant": "", "profile": ""}
        headers = {name: value.format_map(fill) for name, value in self._settings.link_headers.items()}
        set_up = live_config.live_config(config, [], "", headers, backend, seeded=False)
        async with self._turn:
            began = time.monotonic()
            link = await self._dialer.dial(config.model, set_up, live_config.input_rate(config))
            took = time.monotonic() - began
            await link.close()
        return fabric_pb2.BackendChecked(model=config.model, took=responses.duration(took))
