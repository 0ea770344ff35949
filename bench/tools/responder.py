"""Answers bare requests at once: `python -m bench.tools.responder NATS_URL`, until its stdin ends."""

import asyncio
import sys
from typing import Final

import nats
import uvloop
from nats.aio.msg import Msg

SUBJECT: Final = "bench.bare"
REPLY: Final = bytes(64)
"""About what a tool's reply has."""


async def respond(url: str) -> None:
    """Until stdin ends."""
    client = await nats.connect(url)

    async def answer(message: Msg) -> None:
        await message.respond(REPLY)

    await client.subscribe(SUBJECT, queue="bench", cb=answer)
    await client.flush()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await client.close()


if __name__ == "__main__":
    uvloop.run(respond(sys.argv[1]))
