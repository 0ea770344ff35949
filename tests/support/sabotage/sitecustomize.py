"""Takes away what a takeover stands on, in the worker processes that have this folder on their PYTHONPATH.

Each name is one promise that is broken; tests/faults must notice each.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def _no_replay() -> None:
    """What the old owner was sent is not given to the new one."""
    from dataclasses import replace

    from services.session_worker import takeover

    restored = takeover.restored

    def forgetful(request: Any, *rest: Any) -> Any:
        state = restored(request, *rest)
        return replace(state, received=max(state.received, request.uplink_sent_seq), to_give=set())

    takeover.restored = forgetful


def _restarted_seq() -> None:
    """The downlink is numbered from the checkpoint on, not from what the caller has."""
    from services.session_worker.takeover import Inherited

    Inherited.last_downlink_seq = property(  # type: ignore[assignment, method-assign]
        lambda inherited: inherited.state.checkpoint.turn_end_downlink_seq
    )


def _no_fence() -> None:
    """The server is not asked whose session it is."""
    from services.fabric.records import RecordStore

    async def unfenced(
        store: RecordStore, _session: str, _own: int, subject: str, payload: bytes, *, create_only: bool = False
    ) -> int:
        return await store._publish(subject, payload, {} if create_only else {"Nats-Rollup": "sub"})

    RecordStore._fenced = unfenced  # type: ignore[method-assign]


def _early_ack() -> None:
    """What has arrived is acked, although nobody else could restore it."""
    from services.session_worker.session import Session

    act_on = Session._act_on

    def hasty(session: Session, taken: Any) -> None:
        act_on(session, taken)
        session._uplink.coverage.cover(session._uplink.received)
        session._tell_stored()

    Session._act_on = hasty  # type: ignore[method-assign]


SABOTAGE = {
    "no_replay": _no_replay,
    "restarted_seq": _restarted_seq,
    "no_fence": _no_fence,
    "early_ack": _early_ack,
}

# Every Python process of the stack comes by here.
if sys.orig_argv[-1] == "worker":
    SABOTAGE[os.environ["PARLEY_TEST_SABOTAGE"]]()
