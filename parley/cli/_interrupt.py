"""Runs a command's coroutine so that Ctrl-C always ends it."""

import asyncio
import signal
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """As `asyncio.run`, beside gRPC's threads too. KeyboardInterrupt after Ctrl-C, once `main` has cleaned up.

    The kernel may hand the signal to any thread. `asyncio.run` leaves it to Python to call a handler on the main
    thread, which then sleeps on until something else wakes its loop; a handler of the loop wakes it.
    """
    interrupted = False

    async def interruptible() -> Result:
        task = asyncio.current_task()
        assert task is not None

        def interrupt() -> None:
            nonlocal interrupted
            if interrupted:
                raise KeyboardInterrupt  # in a hurry
            interrupted = True
            task.cancel()

        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupt)
        return await main

    try:
        return asyncio.run(interruptible())
    except asyncio.CancelledError:
        if interrupted:
            raise KeyboardInterrupt from None
        raise
