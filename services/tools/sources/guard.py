"""The policy of calls to one source: circuit breaker, and retries where they are safe. Secrets are its as well."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from services.tools.context import OutcomeUnknownError, ToolContext, ToolError, ToolUnavailableError
from services.tools.sources.breaker import Breaker
from services.tools.sources.secrets import Secrets

log = structlog.get_logger()
T = TypeVar("T")

_LONGEST_WAIT: Final = 2.0
_CLOCK: Final = 0.01
"""Seconds by which the event loop may be early."""


class Guard:
    """Stands between the tools of one source and what they stand on. What the tools raise passes it; what it has to say
    itself is a ToolError."""

    def __init__(
        self,
        source: str,
        secrets: Secrets,
        *,
        retries: int,
        breaker: Breaker | None = None,
        slow_is_failure: bool = True,
    ) -> None:
        """`slow_is_failure`: whether a call that is not answered in time counts for the breaker."""
        self._slow_is_failure = slow_is_failure
        self._source = source
        self._secrets = secrets
        self._retries = retries
        self._breaker = breaker or Breaker()

    def hide(self, text: str) -> str:
        """The text without the secrets of the source."""
        return self._secrets.hide(text)

    async def call(self, attempt: Callable[[], Awaitable[Any]], context: ToolContext, *, idempotent: bool) -> Any:
        """What `attempt` returns, in the end. ToolError for the model; OutcomeUnknownError among them."""

        async def guarded() -> Any:
            with self._watched(context):
                return await attempt()

        patiently = AsyncRetrying(**self._patience(context, idempotent=idempotent))
        with self._told(idempotent=idempotent):
            return await patiently(guarded)

    def call_in_thread(self, attempt: Callable[[], T], context: ToolContext, *, idempotent: bool) -> T:
        """The same for what blocks."""

        def guarded() -> T:
            with self._watched(context):
                return attempt()

        def pause(seconds: float) -> None:
            context.cancellation.wait(seconds)  # it ends when nobody wants the result any more

        patiently = Retrying(sleep=pause, **self._patience(context, idempotent=idempotent))
        with self._told(idempotent=idempotent):
            return patiently(guarded)

    def _patience(self, context: ToolContext, *, idempotent: bool) -> dict[str, Any]:
        attempts = stop_after_attempt(1 + self._retries if idempotent else 1)

        def stop(state: RetryCallState) -> bool:
            # The model hears of the cause, not that there was no result in time.
            return attempts(state) or context.cancelled or state.upcoming_sleep >= context.seconds_left

        return {
            "retry": retry_if_exception_type(ToolUnavailableError),
            "wait": wait_random_exponential(multiplier=0.1, max=_LONGEST_WAIT),
            "stop": stop,
            "before_sleep": self._retried,
            "reraise": True,
        }

    @contextmanager
    def _told(self, *, idempotent: bool) -> Iterator[None]:
        """What the model is told when the source does not answer."""
        try:
            yield
        except ToolUnavailableError as error:
            log.warning("tool source failed", source=self._source, error=self.hide(str(error)))
            if error.may_have_run and not idempotent:
                raise OutcomeUnknownError(f"{error}; whether it had its effect is unknown") from None
            raise ToolError(str(error)) from None

    @contextmanager
    def _watched(self, context: ToolContext) -> Iterator[None]:
        """One attempt, as the breaker sees it."""
        if context.cancelled:
            raise ToolError("not run: nobody wants the result any more")
        if (wait := self._breaker.wait(time.monotonic())) > 0:
            raise ToolError(f"not run: {self._source} keeps failing; try again in {wait:.0f} s")
        try:
            yield
        except ToolUnavailableError:
            self._breaker.failed(time.monotonic())
            raise
        except asyncio.CancelledError:
            # Too slow is a failure of the source; a call that was taken back is not.
            if self._slow_is_failure and context.seconds_left <= _CLOCK:
                self._breaker.failed(time.monotonic())
            else:
                self._breaker.abandoned()
            raise
        except ToolError:
            self._breaker.succeeded()
            raise
        except BaseException:
            self._breaker.abandoned()
            raise
        self._breaker.succeeded()

    def _retried(self, state: RetryCallState) -> None:
        error = state.outcome and state.outcome.exception()
        log.info(
            "call of a tool repeated",
            source=self._source,
            attempt=state.attempt_number,
            error=self.hide(str(error)),
        )
