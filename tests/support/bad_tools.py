"""Tools that fail, under the names that the emulator's scenario calls."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from services.tools.declare import tool


@tool
async def lookup_order(order_id: str) -> dict[str, str]:
    """Looks up an order, or would."""
    raise ValueError(f"boom {order_id}")


@tool(timeout=timedelta(seconds=1))
async def get_weather(city: str) -> dict[str, str]:
    """Tells the weather, or would."""
    await asyncio.Event().wait()
    return {"city": city}
