"""What processes use, read from /proc (Linux)."""

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += tree(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its descendants."""
    fields = [Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split() for one in tree(pid)]
    return sum(int(one[11]) + int(one[12]) for one in fields) / _TICKS


def resident(pid: int) -> int:
    """Bytes of a process and its descendants."""
    return sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) * _PAGE for one in tree(pid))


def machine_cpu_seconds() -> float:
    """Time that all CPUs were busy since the machine started, whoever had them; with what a hypervisor took away."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, _first_line("/proc/stat").split()[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS


def _first_line(path: str) -> str:
    with Path(path).open() as file:
        return file.readline()
