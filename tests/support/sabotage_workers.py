"""Sabotage: a worker without what its sessions survive its death by."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from services.fabric.records import RecordStore
from services.session_worker import takeover
from services.session_worker.intake import Intake
from services.session_worker.takeover import Inherited
from tests.support.sabotage_stack import VARIABLE


def no_replay() -> None:
    """What the old owner was sent is not given to the new one."""
    restored = takeover.restored

    def forgetful(request: Any, *rest: Any) -> Any:
        state = restored(request, *rest)
        return replace(state, received=max(state.received, request.uplink_sent_seq), to_give=set())

    takeover.restored = forgetful  # type: ignore[attr-defined]


def restarted_seq() -> None:
    """The downlink is numbered from the checkpoint on, not from what the caller has."""
    Inherited.last_downlink_seq = property(  # type: ignore[assignment, method-assign]
        lambda inherited: inherited.state.checkpoint.turn_end_downlink_seq
    )


def no_fence() -> None:
    """The server is not asked whose session it is."""

    async def unfenced(
        store: RecordStore, _session: str, _own: int, subject: str, payload: bytes, *, create_only: bool = False
    ) -> int:
        return await store._publish(subject, payload, {} if create_only else {"Nats-Rollup": "sub"})

    RecordStore._fenced = unfenced  # type: ignore[method-assign]


def early_ack() -> None:
    """What has arrived is acked, although nobody else could restore it."""
    act_on = Intake._act_on

    def hasty(intake: Intake, taken: Any) -> None:
        act_on(intake, taken)
        uplink = intake._parts.uplink
        uplink.coverage.cover(uplink.received)
        intake._tell()

    Intake._act_on = hasty  # type: ignore[method-assign]


SABOTAGES: dict[str, Callable[[], None]] = {
    sabotage.__name__: sabotage for sabotage in (no_replay, restarted_seq, no_fence, early_ack)
}


def main() -> None:
    """The worker, sabotaged as the environment says."""
    from services.session_worker.cli import command

    SABOTAGES[os.environ[VARIABLE]]()
    command()


if __name__ == "__main__":
    main()
