"""`parley worker`: run a session worker."""

from __future__ import annotations


def command() -> None:
    """Run a session worker. Settings come from PARLEY_WORKER_* (see `parley settings worker`)."""
    from services.fabric import process

    with process.importing():
        from services.session_worker.server import serve
        from services.session_worker.settings import WorkerSettings

    settings = WorkerSettings()
    process.run(lambda: serve(settings))
