"""One connection, from its upgrade request to its close: sockets, admission, and what is bounded."""
