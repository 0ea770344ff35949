"""What a running stack holds, counted from outside: the oracle for "nothing is left behind"."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from parley.cli.stack import Stack


async def get_json(url: str) -> Any:
    """GET a JSON document."""

    def fetch() -> Any:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.loads(answer.read())

    return await asyncio.to_thread(fetch)


async def get_text(url: str) -> str:
    """GET a text."""

    def fetch() -> str:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())

    return await asyncio.to_thread(fetch)


async def post_json(url: str, document: Any) -> Any:
    """POST a JSON document; the answer."""

    def send() -> Any:
        request = urllib.request.Request(url, json.dumps(document).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    return await asyncio.to_thread(send)


async def http_status(url: str) -> int:
    """Status of a GET."""

    def fetch() -> int:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    return await asyncio.to_thread(fetch)


@dataclass(frozen=True)
class Held:
    """Everything that could leak, by process or stream."""

    tasks: dict[str, int]
    subscriptions: dict[str, int]
    nats_subscriptions: int
    messages: dict[str, int]
    """Messages by stream; KV keys are messages of KV_* streams."""
    sessions: dict[str, int]
    """Sessions in workers, streams in gateways, links at the emulator."""


@dataclass(frozen=True)
class Memory:
    """Resident bytes by process."""

    resident: dict[str, int]


async def held(stack: Stack) -> Held:
    """Count everything."""
    tasks: dict[str, int] = {}
    subscriptions: dict[str, int] = {}
    sessions: dict[str, int] = {}
    for child in [*stack.gateways, *stack.workers, *stack.tools]:
        numbers = await get_json(child.ready["ops"] + "/debug/vars")
        tasks[child.name] = numbers["tasks"]
        subscriptions[child.name] = numbers["subscriptions"]
        for kind in ("sessions", "closing", "to_forget", "streams", "watches", "running"):
            if kind in numbers:
                sessions[f"{child.name} {kind}"] = numbers[kind]
    if stack.emulator is not None:
        stats = await get_json(stack.emulator.ready["control"] + "/stats")
        tasks[stack.emulator.name] = stats["tasks"]
        sessions["emulator connections"] = stats["connections"]
    return Held(tasks, subscriptions, await _server_subscriptions(stack), await stream_messages(stack), sessions)


async def _server_subscriptions(stack: Stack) -> int:
    return int((await get_json(stack.nats.ready["monitor"] + "/subsz"))["num_subscriptions"])


async def stream_messages(stack: Stack) -> dict[str, int]:
    """Messages in each JetStream stream."""
    info = await get_json(stack.nats.ready["monitor"] + "/jsz?streams=true")
    return {
        stream["name"]: stream["state"]["messages"]
        for account in info.get("account_details", [])
        for stream in account.get("stream_detail", [])
    }


async def memory(stack: Stack) -> Memory:
    """Resident memory of our processes."""
    found = {}
    for child in [*stack.gateways, *stack.workers, *stack.tools]:
        found[child.name] = (await get_json(child.ready["ops"] + "/debug/vars"))["resident_bytes"]
    if stack.emulator is not None:
        found[stack.emulator.name] = (await get_json(stack.emulator.ready["control"] + "/stats"))["rss_bytes"]
    return Memory(found)


async def heard(stack: Stack, session_id: str) -> dict[str, Any]:
    """What the model heard in a session, from the emulator's record."""
    assert stack.emulator is not None
    record: dict[str, Any] = await get_json(f"{stack.emulator.ready['control']}/conversations/{session_id}")
    return record
