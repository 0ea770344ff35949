"""The load: calls that send stamped frames in real time and account for every one that comes back.

A process of its own for each kind (`python -m bench.load fabric|bare|floor`), so that what it costs is not mixed with
what the services cost. Plain code: `stamps`, `tally`, `tamper`. The three kinds of call: `fabric`, `bare`, `floor`.
"""
