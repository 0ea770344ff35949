"""Stories told in one stack, all of whose sessions lose their worker at once, each in its own state."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio

from parley.cli._child import Child
from parley.cli.stack import Stack, StackConfig
from parley.v1 import sessions_pb2, sessions_pb2_grpc
from tests.faults.call import Call, calling, check
from tests.faults.stories import Stories
from tests.support import order_ledger

Strike = Callable[[Stack], Awaitable[None]]
"""What happens to a stack."""


class Scene:
    """Stories that are told in one stack, all of whose sessions lose their worker at once, each in its own state."""

    def __init__(self, stack: Stack, folder: Path, stories: int) -> None:
        self.stack = stack
        self.folder = folder
        """Of the order ledger."""
        self._stories = stories
        self._ready = 0
        self._all_ready = asyncio.Event()
        self._others = asyncio.Event()
        self._in_state = 0
        self._all_in_state = asyncio.Event()
        self._struck = asyncio.Event()
        self.struck_at = 0.0
        """When what happens had happened; of the loop's clock."""

    async def prepared(self) -> None:
        """Come to the point from which every story is in its state within two seconds."""
        self._ready += 1
        self._look()
        await self._all_ready.wait()
        await self._others.wait()

    async def struck(self) -> None:
        """Be in the state in which the worker dies; returns when it has."""
        self._in_state += 1
        self._look()
        await self._struck.wait()

    def failed(self) -> None:
        """A story is not waited for any more."""
        self._stories -= 1
        self._look()

    def _look(self) -> None:
        if self._ready >= self._stories:
            self._all_ready.set()
        if self._in_state >= self._stories:
            self._all_in_state.set()

    async def direct(self, strike: Strike) -> None:
        """Start whoever takes over, then let what happens happen."""
        # Only now, so that every session is with the worker that dies.
        await self._all_ready.wait()
        await asyncio.gather(self.stack.start_worker(), self.stack.start_worker())
        self._others.set()
        await self._all_in_state.wait()
        await strike(self.stack)
        self.struck_at = asyncio.get_running_loop().time()
        self._struck.set()


async def kill(*children: Child) -> None:
    """SIGKILL for all at once; returns when they are gone."""
    for child in children:
        child.stopping = True
        child.signal(signal.SIGKILL)
    for child in children:
        await child.gone()


@asynccontextmanager
async def in_the_scene(scene: Scene, **options: Any) -> AsyncIterator[Call]:
    """A call that has had an answer, together with all the others."""
    try:
        async with calling(scene.stack, **options) as call:
            await call.session.send_text("hello")
            await call.answer(containing="help you")
            await scene.prepared()
            yield call
    except BaseException:
        scene.failed()
        raise


async def goes_on(call: Call, *, asked_again: bool = False, twice: float | None = None) -> None:
    """What comes next is asked and answered once, and nothing was lost before; `asked_again`, `twice`: see `check`."""
    since = len(call.got)
    await call.session.send_text("what is the weather in london")
    await call.answer(since, containing="degrees")
    await check(call, asked_again=asked_again, twice=twice)


async def owner(call: Call) -> Child:
    """The worker that has the session."""
    found = await worker_of(call)
    assert found is not None
    return found


async def worker_of(call: Call) -> Child | None:
    """The same; none where it is one that the stack does not know."""
    async with grpc.aio.insecure_channel(str(call.stack.gateways[0].ready["address"])) as channel:
        stub = sessions_pb2_grpc.SessionServiceStub(channel)
        found = await stub.GetSession(sessions_pb2.GetSessionRequest(session_id=call.session.id))
    return next((worker for worker in call.stack.workers if worker.ready["id"] == found.session.worker), None)


async def tell(
    stories: Stories, strike: Strike, folder: Path, make_stack: Callable[[StackConfig], Stack] = Stack, **env: str
) -> dict[str, BaseException | None]:
    """These stories in a stack of their own, whose services have `env` more."""
    if not stories.names:
        return {}
    env |= {order_ledger.FOLDER: str(folder), "PARLEY_TOOLS_MODULES": order_ledger.MODULES}
    async with make_stack(StackConfig(workers=1, gateways=2, env=env)) as stack:
        scene = Scene(stack, folder, len(stories.names))
        directing = asyncio.create_task(scene.direct(strike))
        try:
            return await stories.tell(scene)
        finally:
            directing.cancel()
