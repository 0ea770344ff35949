"""Several processes that serve as one emulator.

A conversation has one owner among them, found from its id or from a handle; a connection that the kernel gives to
another process is passed on to the owner byte by byte. What counts over all of them (tokens, quota, faults that may
fire so often) is kept in one small database. The parent starts them, answers the control API for all, and ends with
them: nothing is ever half alive.
"""
