"""Deadlines of several parts as one."""


def soonest(*deadlines: float | None) -> float | None:
    """The first of them; None where nothing is pending. Asked after every message, hence no generator and no list."""
    first = None
    for deadline in deadlines:
        if deadline is not None and (first is None or deadline < first):
            first = deadline
    return first
