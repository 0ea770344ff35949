"""What processes use, as /proc tells it."""

from __future__ import annotations

import asyncio
import os
import sys

from bench.processes import cpu_seconds, machine_cpu_seconds, resident, tree
from tests.support.eventually import eventually


async def test_work_of_a_process_is_its_own_its_parents_and_the_machines() -> None:
    code = "import sys\nmemory = bytearray(64 << 20)\nprint(flush=True)\nwhile True: pass"
    mine, machine = cpu_seconds(os.getpid()), machine_cpu_seconds()
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    try:
        assert child.stdout is not None
        await child.stdout.readline()
        assert child.pid in tree(os.getpid())
        assert resident(os.getpid()) > resident(child.pid) > 64 << 20
        await eventually(lambda: cpu_seconds(child.pid) >= 0.2)
        assert cpu_seconds(os.getpid()) - mine > 0.15  # in ticks of 10 ms
        await eventually(lambda: machine_cpu_seconds() - machine >= 0.2, 20)  # sampled by the kernel
    finally:
        child.kill()
        await child.wait()
