"""A voice application on the Python client, of few lines, under `parley conformance --client`.

It reports what it plays, so that `barge-in` sees more of it than of `parley talk`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque

import parley
from parley import errors, events


async def converse(target: str) -> None:
    playout: deque[events.Audio] = deque()
    queued = asyncio.Event()

    async def play() -> None:
        while True:
            await queued.wait()
            if playout:
                event = playout.popleft()
                report("played", event.seq)
                await asyncio.sleep(event.seconds)
            else:
                queued.clear()

    async with parley.connect(target, profile="support") as session:
        loudspeaker = asyncio.create_task(play())
        try:
            await session.send_text("hello")
            async for event in session:
                match event:
                    case events.Audio():
                        playout.append(event)
                        queued.set()
                    case events.Interrupted(seq=seq):
                        playout = deque(item for item in playout if not event.takes_back(item.seq))
                        report("interrupted", seq)
                    case events.TurnComplete():
                        await session.end()
        finally:
            loudspeaker.cancel()
    if session.ended is None or session.ended.reason != "CALLER":
        raise SystemExit(f"the session ended: {session.ended}")


def report(event: str, seq: int) -> None:
    print(json.dumps({"event": event, "seq": seq}), flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(converse(sys.argv[1]))
    except errors.ParleyError as error:
        raise SystemExit(str(error)) from None
