"""Faults: what goes wrong on a connection, at which moment, said beforehand or while it is open.

``specs`` are the faults and their parameters, ``text`` reads them, ``plan`` decides for one connection when each fires
and what it does, ``orders`` holds those that come over the control port, ``routes`` and ``cli`` are the ways in.
"""
