"""The policy of calls to one remote source: circuit breaker, retries where they are safe, secrets kept out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from services.tools.context import OutcomeUnknownError, ToolContext, ToolError
from services.tools.sources.breaker import Breaker
from services.tools.sources.secrets import Secrets

log = structlog.get_logger()

_LONGEST_WAIT: Final = 2.0
_CLOCK: Final = 0.01
"""Seconds by which the event loop may be early."""
_MAX_ERROR: Final = 2000
"""Characters of a remote error that are looked at: the executor gives fewer to the model."""


class TransportError(Exception):
    """The source did not answer. The message is for the model and the operator, and holds no secret."""

    def __init__(self, message: str, *, may_have_run: bool) -> None:
        super().__init__(message)
        self.may_have_run = may_have_run
        """The source may have got the call all the same."""


class Guard:
    """Stands between the tools of one source and the network."""

    def __init__(self, source: str, secrets: Secrets, *, retries: int, breaker: Breaker | None = None) -> None:
        self._source = source
        self._secrets = secrets
        self._retries = retries
        self._breaker = breaker or Breaker()

    def hide(self, text: str) -> str:
        """A text of the source without the secrets that it was sent."""
        return self._secrets.hide(text)

    async def call(self, attempt: Callable[[], Awaitable[Any]], context: ToolContext, *, idempotent: bool) -> Any:
        """What `attempt` returns, in the end. ToolError for the model; OutcomeUnknownError among them."""
        patiently = AsyncRetrying(
            retry=retry_if_exception_type(TransportError),
            wait=wait_random_exponential(multiplier=0.1, max=_LONGEST_WAIT),
            stop=stop_after_attempt(1 + self._retries if idempotent else 1),
            before_sleep=self._retried,
            reraise=True,
        )
        try:
            return self._secrets.hide_in(await patiently(self._attempt, attempt, context))
        except TransportError as error:
            log.warning("tool source failed", source=self._source, error=str(error))
            if error.may_have_run and not idempotent:
                raise OutcomeUnknownError(f"{error}; whether it had its effect is unknown") from None
            raise ToolError(str(error)) from None
        except ToolError as error:
            raise type(error)(self._secrets.hide(str(error)[:_MAX_ERROR])) from None

    async def _attempt(self, attempt: Callable[[], Awaitable[Any]], context: ToolContext) -> Any:
        if (wait := self._breaker.wait(time.monotonic())) > 0:
            raise ToolError(f"not run: {self._source} keeps failing; try again in {wait:.0f} s")
        try:
            value = await attempt()
        except TransportError:
            self._breaker.failed(time.monotonic())
            raise
        except asyncio.CancelledError:
            # Too slow is a failure of the source; a call that was taken back is not.
            if context.seconds_left > _CLOCK:
                self._breaker.abandoned()
            else:
                self._breaker.failed(time.monotonic())
            raise
        except ToolError:
            self._breaker.succeeded()
            raise
        except BaseException:
            self._breaker.abandoned()
            raise
        self._breaker.succeeded()
        return value

    def _retried(self, state: RetryCallState) -> None:
        error = state.outcome and state.outcome.exception()
        log.info("call of a tool source repeated", source=self._source, attempt=state.attempt_number, error=str(error))
