"""What is kept of a call in which a promise was broken: JSON files, a bounded number of them."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tests.faults.call import Call
from tests.support.counts import get_json

_MOST: Final = 50
"""Files of one run."""


class Evidence:
    """Of one run."""

    def __init__(self, folder: Path) -> None:
        """`folder`: where the files go; there is one as soon as it is needed."""
        self._folder = folder
        self._numbers = itertools.count(1)

    async def keep(self, call: Call, told: list[str], problem: BaseException) -> Path | None:
        """The emulator's record of the conversation with each of its links, and what the callers got and when; None
        when there are files enough. `told`: what happened in short."""
        number = next(self._numbers)
        if number > _MOST:
            return None
        path = self._folder / f"violation-{number:02}-{call.session.id}.json"
        found = {
            "problem": f"{type(problem).__name__}: {problem}",
            "told": told,
            "callers": [_of(caller) for caller in call.callers],
            **await _record(call),
        }
        await asyncio.to_thread(_write, path, found)
        return path


async def _record(call: Call) -> dict[str, Any]:
    emulator = call.stack.emulator
    assert emulator is not None
    url = f"{emulator.ready['control']}/conversations/{call.session.id}"
    record = await get_json(url)
    links = [await get_json(f"{url}/links/{link['index']}") for link in record["links"]]
    return {"lineage": await get_json(f"{url}/lineage"), "links": links, "events": record["events"]}


def _of(caller: Call) -> dict[str, Any]:
    return {
        "stream": caller.stream,
        "voiced": [{"first": first, "last": after - 1} for first, after in caller.sent.voiced],
        "got": list(_timed(caller)),
    }


def _timed(caller: Call) -> Iterator[str]:
    """With the time of day, by which lines of logs are found."""
    epoch = time.time() - time.monotonic()
    for event, at in zip(caller.got, caller.got_at, strict=True):
        what = f"Audio(seq={event.seq})" if type(event).__name__ == "Audio" else str(event)
        yield f"{datetime.fromtimestamp(epoch + at, UTC).time().isoformat('milliseconds')} {what}"


def _write(path: Path, found: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1))
