"""The HTTP port of a process listens where its setting says, in both families of addresses."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from services.fabric.ops import OpsServer
from tests.support.counts import http_status


def has_ipv6() -> bool:
    """Whether this machine's loopback has an IPv6 address."""
    try:
        with closing(socket.socket(socket.AF_INET6)) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


async def no_metrics() -> bytes:
    return b""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::]"])
async def test_it_answers_at_the_url_that_it_returns(host: str) -> None:
    if ":" in host and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    server = OpsServer(f"{host}:0", lambda: True, dict, no_metrics)
    url = await server.start()
    try:
        assert await http_status(f"{url}/livez") == 200
    finally:
        await server.stop()
