"""Runs a client's checks: a scripted gateway and the client's process for each, a few at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

from parley.conformance.client_checks import ClientCheck
from parley.conformance.command import Command, arguments, running
from parley.conformance.outcome import Outcome
from parley.conformance.scene import Scene
from parley.conformance.scripted_gateway import ScriptedGateway, scripted_gateway
from parley.conformance.steps import Answer, Done, Finish, Nothing, Send, Steps, Violation, Wait


async def run_client_checks(
    checks: Sequence[ClientCheck], command: str, *, at_once: int, patience: float, limit: float
) -> AsyncIterator[Outcome]:
    """One outcome a check, in their order, `at_once` at the same time. OSError: the command cannot be started.

    `patience`: seconds that the client may take for each thing that it must do next; `limit`: for a whole check.
    """
    places = asyncio.Semaphore(at_once)

    async def one(check: ClientCheck) -> Outcome:
        async with places:
            return await run_client_check(check, command, patience, limit)

    tasks = [asyncio.create_task(one(check), name=check.name) for check in checks]
    try:
        for task in tasks:
            yield await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run_client_check(check: ClientCheck, command: str, patience: float, limit: float) -> Outcome:
    """Hold one client to one check; for the times see `run_client_checks`."""
    started = time.monotonic()
    scene = Scene(patience)
    async with scripted_gateway() as gateway:
        words = arguments(command, gateway.target)
        async with running(words, gateway.target, check.name) as client:
            following = asyncio.create_task(client.follow(gateway.events), name=f"follow {check.name}")
            problem = ""
            try:
                async with asyncio.timeout(limit):
                    await _act(check.script(scene), gateway)
            except Violation as violation:
                problem = str(violation)
            except TimeoutError:
                problem = f"not over within {limit:g} s"
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            return _outcome(check, scene, client, problem, time.monotonic() - started)


def _outcome(check: ClientCheck, scene: Scene, client: Command, problem: str, seconds: float) -> Outcome:
    if not problem:
        return Outcome(check.name, True, "; ".join(scene.notes), seconds)
    return Outcome(check.name, False, problem, seconds, tuple(client.said))


async def _act(script: Steps[None], gateway: ScriptedGateway) -> None:
    """Carry out what the script yields until it is over."""
    try:
        action = next(script)
        while True:
            answer: Answer
            match action:
                case Wait(seconds):
                    answer = await _next_event(gateway, seconds)
                case Send(call, response):
                    await gateway.send(call, response)
                    answer = Done(time.monotonic())
                case Finish(call, status):
                    answer = Done(time.monotonic())
                    gateway.finish(call, status)
            action = script.send(answer)
    except StopIteration:
        return


async def _next_event(gateway: ScriptedGateway, seconds: float) -> Answer:
    if not gateway.events.empty():
        return gateway.events.get_nowait()
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            return await gateway.events.get()
    except TimeoutError:
        return Nothing(time.monotonic())
