"""What faults cost a conversation, while nothing is lost.

``make bench-continuity``, or ``python -m bench.continuity [--only rotation killed ...] [--sessions 20] [--rounds 5]``.

Each scene has a fresh stack and calls in the emulator's support scenario, and does one thing to them: goAway at a quiet
point, SIGKILL or SIGSTOP of their worker, SIGTERM of a worker with fifty calls, a link that hangs, a barge-in, a call
too many. What the model heard, and when, is read from the emulator's record; times of callers and of the emulator are
of one clock, because all processes are on this machine. With the defaults it takes some seven minutes.

How to read the figures: docs/bench.md. Exit status 1 when anything was lost in silence, came twice, or a call was not
answered: such figures say nothing. The budgets are told and not enforced.
"""
