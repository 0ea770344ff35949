"""The example's payments, each of which stops between its commit and its result until the test says so."""

from __future__ import annotations

import json
import os
import socket
from typing import Final, TypeVar

from services.tools import ToolContext, tool
from services.tools.examples import orders
from services.tools.settings import ToolsSettings

SOCKET: Final = "PARLEY_TEST_PAYMENTS"
"""Variable with the path of the Unix socket that is told of each commit, a line of JSON, and answers with a line when
the function may return its result."""
SABOTAGE: Final = "PARLEY_TEST_PAYMENTS_SABOTAGE"
"""Variable; `idempotent`: refunds promise what they do not keep, so that they are run again."""
MODULES: Final = "tests.support.payments"
TIMEOUT: Final = 15.0
"""Seconds."""

_SABOTAGED: Final = os.environ.get(SABOTAGE) == "idempotent"

T = TypeVar("T")


def set_up_tools(settings: ToolsSettings) -> None:
    """As the example."""
    orders.set_up_tools(settings)


@tool(timeout=TIMEOUT, behavior="blocking", idempotent=_SABOTAGED)
def refund_order(context: ToolContext, order_id: orders.Number, amount_cents: orders.Cents) -> orders.Refund:
    """Pays money back to the customer for an order."""
    return _committed(context, order_id, orders.refund_order(context, order_id, amount_cents))


@tool(timeout=TIMEOUT, behavior="blocking", idempotent=True)
def send_voucher(context: ToolContext, order_id: orders.Number, amount_cents: orders.Cents) -> orders.Voucher:
    """Sends the customer a voucher, to make up for trouble with an order."""
    voucher = orders.send_voucher(context, order_id, amount_cents)
    # It keeps its promise: whoever strikes at a commit is to strike at a refund's then.
    return voucher if _SABOTAGED else _committed(context, order_id, voucher)


def _committed(context: ToolContext, order_id: str, result: T) -> T:
    what = {"tool": context.tool, "order": order_id, "session": context.session, "pid": os.getpid()}
    with socket.socket(socket.AF_UNIX) as told:
        told.connect(os.environ[SOCKET])
        told.sendall(json.dumps(what).encode() + b"\n")
        told.recv(1)
    return result
