"""Processes that tests start die with the tests, also when those are killed (a CI limit, `kill -9`)."""

from __future__ import annotations

import os
import sys

# PR_SET_PDEATHSIG holds across exec; not set between fork and exec, where Python may deadlock in a threaded program.
_LAUNCHER = (
    "import ctypes,os,sys;sys.platform=='linux' and ctypes.CDLL(None).prctl(1,9);"
    "os.getppid()==int(sys.argv[1]) or os._exit(1);os.execv(sys.argv[2],sys.argv[2:])"
)


def bound(*command: object) -> list[str]:
    """The command, so that it ends with this process. Its first word is an absolute path."""
    return [sys.executable, "-ISc", _LAUNCHER, str(os.getpid()), *map(str, command)]
