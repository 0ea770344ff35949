"""Ports for servers that go away and come back."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserved(address: str = "") -> Iterator[str]:
    """Keep an address, by default 127.0.0.1 with any free port, for a server that is to listen there now and then.

    While no server listens there, the kernel might give it to any connection that leaves this machine. It gives away no
    port that is bound, and a server with SO_REUSEADDR may share one with a socket that does not listen.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", int(address.rpartition(":")[2] or 0)))
        yield "{}:{}".format(*holder.getsockname())
