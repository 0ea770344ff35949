"""Sabotage: a worker without what its sessions survive faults by, as `python -m tests.support.sabotage`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from services.fabric.records import RecordStore
from services.fabric.timeline import Timeline
from services.session_worker import parts, takeover
from services.session_worker.conversation import Conversation
from services.session_worker.execution import Execution
from services.session_worker.intake import Intake
from services.session_worker.journal import Journal, Replay
from services.session_worker.takeover import Inherited
from services.session_worker.tool_reports import Reports
from services.session_worker.turns import TurnState
from tests.support import sabotage_drain
from tests.support.sabotage_stack import VARIABLE


def no_replay() -> None:
    """What the model has not answered is not given again, neither by the worker that was sent it nor by another."""
    Journal.replay = lambda *_args, **_options: Replay()  # type: ignore[method-assign]
    restored = takeover.restored

    def forgetful(request: Any, *rest: Any) -> Any:
        state = restored(request, *rest)
        return replace(state, received=max(state.received, request.uplink_sent_seq), to_give=set())

    takeover.restored = forgetful  # type: ignore[attr-defined]


def double_replay() -> None:
    """It is given twice."""
    replay = Journal.replay

    def twice(self: Journal, now: float, **options: Any) -> Replay:
        found = replay(self, now, **options)
        found.items *= 2
        return found

    Journal.replay = twice  # type: ignore[method-assign,assignment]


def no_words() -> None:
    """What was said since the handle is not told."""
    Conversation.since = lambda *_args: []  # type: ignore[method-assign]


def words_kept() -> None:
    """With the log off everything is stored all the same."""
    parts.without_words = lambda entry: entry  # type: ignore[attr-defined]


def asked_in_words() -> None:
    """A question is told again although the state of the model has it."""
    Journal.typed_turn_taken_up = lambda *_args: None  # type: ignore[method-assign]


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
    act_on = Intake.act_on

    def hasty(intake: Intake, taken: Any, now: float) -> None:
        act_on(intake, taken, now)
        uplink = intake._parts.uplink
        uplink.coverage.cover(uplink.received)
        intake._tell()

    Intake.act_on = hasty  # type: ignore[method-assign]


def one_result() -> None:
    """What a tool says before its end is for nobody."""

    async def deaf(_reports: Reports, _execution: str) -> None: ...

    Reports.follow = deaf  # type: ignore[method-assign]


def lost_outcome() -> None:
    """When an answer is cut off, nobody waits any more for what runs since earlier ones."""
    restart = TurnState.restart

    def forgetful(turns: TurnState, first: int) -> set[str]:
        pending = set(turns.pending_calls)
        restart(turns, first)
        return pending

    TurnState.restart = forgetful  # type: ignore[method-assign]


def no_cancellation() -> None:
    """Nobody tells a function that its result is not wanted."""

    async def mute(_execution: Execution) -> None: ...

    Execution._cancel = mute  # type: ignore[method-assign]


def no_notes() -> None:
    """What happens to a session is not noted."""
    Timeline.note = lambda *_args, **_options: None  # type: ignore[method-assign]


SABOTAGES: dict[str, Callable[[], None]] = {
    sabotage.__name__: sabotage
    for sabotage in (
        *(no_replay, double_replay, no_fence, restarted_seq, early_ack, no_words),
        *(words_kept, asked_in_words),
        *(sabotage_drain.no_quiet_moment, sabotage_drain.open_link),
        *(one_result, lost_outcome, no_cancellation, no_notes),
    )
}


def main() -> None:
    """The worker, sabotaged as the environment says."""
    from services.session_worker.cli import command

    SABOTAGES[os.environ[VARIABLE]]()
    command()


if __name__ == "__main__":
    main()
