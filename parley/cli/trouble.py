"""Trouble on purpose, in the middle of a conversation: what a demo shows that a session survives."""

import asyncio
import json
import signal
import urllib.request

import grpc

from parley import events
from parley.cli.conversation import Step
from parley.cli.screen import Screen
from parley.cli.stack import Stack
from parley.v1 import sessions_pb2
from parley.v1.sessions_pb2_grpc import SessionServiceStub


class TroubledScreen(Screen):
    """Shows a conversation, and makes trouble while the model speaks: at its first answer the service announces the end
    of the connection, at the next one the session's worker is killed."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self._stack = stack
        self._session = ""
        self._steps = 0
        self._made: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.recovered: list[str] = []
        """Causes of the links that were replaced."""
        self._cause = ""

    def on_step(self, step: Step) -> None:
        """The caller begins to say something."""
        self._steps += 1
        super().on_step(step)

    def on_event(self, event: events.Event) -> None:
        """The service said something."""
        super().on_event(event)
        match event:
            case events.Opened():
                self._session = event.session_id
            case events.LinkRotating():
                self._cause = event.cause
            case events.LinkRecovered() if self._cause:
                self.recovered.append(self._cause)
                self._cause = ""
            case events.OutputTranscript() if self._steps not in self._made:
                self._made.add(self._steps)
                trouble = {1: self._go_away, 2: self._kill_worker}.get(self._steps)
                if trouble is not None:
                    task = asyncio.get_running_loop().create_task(trouble())
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
            case _:
                pass

    async def _go_away(self) -> None:
        emulator = self._stack.emulator
        assert emulator is not None
        self._line("trouble", "the service says goAway, and closes the connection in 2 s", "yellow")
        url = f"{emulator.ready['control']}/conversations/{self._session}/faults"
        order = json.dumps({"fault": "go_away time_left=2s then=close"}).encode()
        await asyncio.to_thread(lambda: urllib.request.urlopen(url, order, timeout=5).close())

    async def _kill_worker(self) -> None:
        async with grpc.aio.insecure_channel(str(self._stack.gateways[0].ready["address"])) as channel:
            request = sessions_pb2.GetSessionRequest(session_id=self._session)
            name = (await SessionServiceStub(channel).GetSession(request, timeout=5)).session.worker
        for worker in self._stack.workers:
            if worker.ready["id"] == name:
                self._line("trouble", f"kill -9 of {worker.name}, which holds the session", "yellow")
                worker.stopping = True
                worker.signal(signal.SIGKILL)
