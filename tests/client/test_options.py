"""gRPC ignores an option that it does not know without a word, so a wrong name would never be noticed."""

from pathlib import Path

import pytest
from grpc._cython import cygrpc

from parley._connect import CHANNEL_OPTIONS
from services.gateway.server import _GRPC_OPTIONS

CORE = Path(cygrpc.__file__).read_bytes()


@pytest.mark.parametrize("name", sorted({name for name, _ in (*CHANNEL_OPTIONS, *_GRPC_OPTIONS)}))
def test_the_core_knows_the_option(name):
    assert f"{name}\0".encode() in CORE


def test_a_gateway_allows_the_pings_of_the_client():
    """Too many would end the connection of a caller who only listens, after a minute."""
    client, gateway = dict(CHANNEL_OPTIONS), dict(_GRPC_OPTIONS)
    assert client["grpc.keepalive_time_ms"] >= 2 * gateway["grpc.http2.min_ping_interval_without_data_ms"]
