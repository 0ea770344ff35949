"""The body of a plain HTTP request, as far as it comes in time."""

import asyncio

from aiohttp import web

PATIENCE = 10.0
"""Seconds that a client has to send it."""


async def read_body(request: web.Request, within: float = PATIENCE) -> bytes:
    """All of it. Raises 400 for one that is not encoded as it says, 408 for one that is late, 413 if too large."""
    try:
        async with asyncio.timeout(within):
            return await request.read()
    except TimeoutError:
        error = web.HTTPRequestTimeout(text=f"the body did not come within {within:g} seconds")
        error.force_close()
        raise error from None
    except (web.RequestPayloadError, ConnectionError, ValueError) as broken:
        refused = web.HTTPBadRequest(text=f"the body cannot be read: {broken}")
        refused.force_close()
        raise refused from broken
