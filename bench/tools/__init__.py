"""What the way to a tool and back costs, and how soon a function learns that nobody wants its result.

``make bench-tools``, or ``python -m bench.tools [--calls 2000] [--cancellations 500]``.

One request after the other to a tools service in a process of its own, over a real nats-server, as a session worker
makes them: a coroutine function, one that runs in a thread, and one whose call is claimed in JetStream first and
settled there before the reply. Between any two of them a bare request goes to a process that answers at once. From each
round trip the time is subtracted that the function itself took, by its own clock.

How to read the figures: docs/bench.md. Exit status 1 when a call failed or ran more than once: such figures say
nothing.
"""
