"""Sabotage: a worker without what its sessions survive their links by."""

from __future__ import annotations

import os
from collections.abc import Callable

from services.session_worker import parts
from services.session_worker.conversation import Conversation
from services.session_worker.journal import Journal, Replay
from tests.support.sabotage_stack import VARIABLE


def no_replay() -> None:
    """What the model has not answered is not given again."""
    Journal.replay = lambda *_args, **_options: Replay()  # type: ignore[method-assign]


def double_replay() -> None:
    """It is given twice."""
    replay = Journal.replay

    def twice(self: Journal, now: float, **options: float) -> Replay:
        found = replay(self, now, **options)  # type: ignore[arg-type]
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


SABOTAGES: dict[str, Callable[[], None]] = {
    sabotage.__name__: sabotage for sabotage in (no_replay, double_replay, no_words, words_kept, asked_in_words)
}


def main() -> None:
    """The worker, sabotaged as the environment says."""
    from services.session_worker.cli import command

    SABOTAGES[os.environ[VARIABLE]]()
    command()


if __name__ == "__main__":
    main()
