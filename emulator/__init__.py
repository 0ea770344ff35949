"""A local Gemini Live server that unmodified SDKs connect to: it listens, thinks by script, speaks, and keeps a record.

It knows nothing of the product that it serves. ``python -m emulator`` runs it; :mod:`emulator.server` embeds it.

``endpoint`` has the sockets and asks ``endpoint.link`` what to do. That decides without I/O: ``api`` reads messages,
``configuration`` checks the setup by the table in ``models``, ``hearing`` finds speech and has it understood, ``mind``
takes turns, ``tools`` are function calls, ``session`` is what has a life of its own, ``faults`` disturb all of it.
``record`` keeps what happened, ``tape`` records and replays other servers, ``processes`` makes one emulator of several
processes. ``switches`` and ``settings`` are what can be chosen, ``texts`` every reason for a close.
"""
