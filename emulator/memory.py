"""How the process keeps its memory: what has ended is freed at once, and the collector of cycles has little to do."""

import gc


def let_go(error: BaseException | None) -> None:
    """An error that is kept keeps the frames it came through, and all that they hold; without them it is harmless."""
    while error is not None:
        error.__traceback__ = None
        error = error.__context__


def settle() -> None:
    """What set-up made stays for good, and hardly anything comes that is a cycle: the collector is to look seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
