"""What an execution says before it ends: to everybody who waits for it, in order, and from nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import nats as nats_py
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from parley.v1 import fabric_pb2
from services.fabric import subjects
from services.fabric.bus import Bus, settle
from services.session_worker.settings import WorkerSettings
from services.session_worker.tool_reports import Listener, Reports
from tests.support.eventually import eventually
from tests.support.nats import NatsServer


def progress(number: int) -> fabric_pb2.ToolReport:
    return fabric_pb2.ToolReport(number=number, progress=fabric_pb2.ToolProgress(message=str(number)))


def partial(number: int) -> fabric_pb2.ToolReport:
    return fabric_pb2.ToolReport(number=number, partial=fabric_pb2.PartialResult(output_json="{}"))


class Ears:
    """Somebody who listens, and a tools service."""

    def __init__(self, bus: Bus, client: Client) -> None:
        self.heard: list[tuple[str, int]] = []
        self.reports = Reports(bus, lambda execution, report: self.heard.append((execution, report.number)))
        self._bus = bus
        self._client = client

    async def listening(self, execution: str) -> None:
        await self.reports.follow(execution)
        await settle(self._bus.client)

    async def says(self, execution: str, payload: bytes) -> None:
        await self._client.publish(subjects.tool_progress(execution), payload)
        await settle(self._client)


@pytest.fixture
async def ears(nats: NatsServer) -> AsyncIterator[Ears]:
    bus = Bus(WorkerSettings(nats_url=nats.url), "worker", "ears")
    bus.start()
    await bus.wait_connected(5)
    client = await nats_py.connect(nats.url)
    yield Ears(bus, client)
    await client.close()
    await bus.close()


async def test_only_the_execution_of_the_moment_is_heard(ears: Ears) -> None:
    await ears.listening("old")
    await ears.says("old", progress(1).SerializeToString())
    await eventually(lambda: ears.heard == [("old", 1)])
    await ears.listening("new")
    await ears.says("old", progress(2).SerializeToString())  # it was given up, and does not know
    await ears.says("new", progress(1).SerializeToString())
    await eventually(lambda: len(ears.heard) == 2)
    await ears.reports.stop()
    await settle(ears._bus.client)
    await ears.says("new", progress(2).SerializeToString())
    await ears.listening("newest")
    await ears.says("newest", progress(1).SerializeToString())
    await eventually(lambda: len(ears.heard) == 3)
    assert ears.heard == [("old", 1), ("new", 1), ("newest", 1)]
    assert ears._bus.subscriptions() == 1
    await ears.reports.stop()
    assert ears._bus.subscriptions() == 0


async def test_what_is_on_its_way_from_an_execution_that_was_given_up_is_dropped(ears: Ears) -> None:
    await ears.listening("old")
    [subscription] = ears._bus.client._subs.values()
    await ears.listening("new")
    assert subscription._cb is not None
    await subscription._cb(Msg(ears._client, data=progress(1).SerializeToString()))
    assert ears.heard == []
    await ears.reports.stop()


async def test_what_is_no_report_is_dropped(ears: Ears) -> None:
    await ears.listening("one")
    await ears.says("one", b"\xff\xff\xff")
    await ears.says("one", progress(2).SerializeToString())
    await eventually(lambda: ears.heard == [("one", 2)])
    await ears.reports.stop()


async def test_a_listener_takes_the_newest_of_each_kind_one_after_another_until_the_end() -> None:
    listener, end = Listener(), asyncio.get_running_loop().create_future()
    taken: list[int] = []
    busy, free = asyncio.Event(), asyncio.Event()

    async def take(_: str, report: fabric_pb2.ToolReport) -> None:
        busy.set()
        await free.wait()
        taken.append(report.number)

    async def work() -> str:
        await end
        return "done"

    task = asyncio.create_task(work())
    following = asyncio.create_task(listener.until_done(task, take))
    listener.hear("e", progress(1))
    await busy.wait()
    for report in (progress(2), partial(3), progress(4), fabric_pb2.ToolReport(number=5)):
        listener.hear("e", report)
    free.set()
    await eventually(lambda: taken == [1, 3, 4])
    free.clear()
    busy.clear()
    listener.hear("e", partial(6))
    await busy.wait()
    listener.hear("e", progress(7))
    end.set_result(None)
    await asyncio.sleep(0)
    free.set()
    assert await following == "done"
    assert taken == [1, 3, 4, 6]  # what came with the end comes too late


async def test_whoever_stops_listening_leaves_the_execution_alone() -> None:
    listener, go_on = Listener(), asyncio.Event()

    async def work() -> str:
        await go_on.wait()
        return "done"

    async def take(_: str, report: fabric_pb2.ToolReport) -> None: ...

    task = asyncio.create_task(work())
    following = asyncio.create_task(listener.until_done(task, take))
    await asyncio.sleep(0)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    go_on.set()
    assert await task == "done"


async def test_an_execution_that_fails_fails_whoever_listens() -> None:
    async def work() -> str:
        raise ValueError

    async def take(_: str, report: fabric_pb2.ToolReport) -> None: ...

    with pytest.raises(ValueError):
        await Listener().until_done(asyncio.create_task(work()), take)
