"""Recordings of Live conversations: ``record`` stands between a client and an endpoint, ``replay`` serves the file.

:mod:`~emulator.tape.captured` says what is captured, :mod:`~emulator.tape.scribe` how a line looks,
:mod:`~emulator.tape.recording` what a file means. The rest is the business of the two commands.
"""
