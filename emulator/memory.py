"""How the process keeps its memory: small, and of the same size after a day as after an hour."""

import ctypes
import gc

_M_MMAP_THRESHOLD = -3  # of mallopt(3)
_LARGE = 128 * 1024
"""Bytes; glibc's own first value."""


def part_large_blocks() -> None:
    """Have every large block mapped by itself, and given back to the system when it is freed.

    glibc would raise its threshold at the first large block freed. Each TLS connection has buffers of 256 KiB; mixed
    into the heap with what outlives the connection, they leave holes that nothing fills: 30 MB after 6,000
    connections, where there are 4 MB this way. Elsewhere than on glibc nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)


def settle() -> None:
    """What set-up made stays for good; told so, the collector paces itself by what connections leave behind."""
    gc.collect()
    gc.freeze()
    gc.collect()
