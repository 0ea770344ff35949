"""How the emulator logs."""

import logging
import sys

import structlog


class _Libraries(logging.Handler):
    """What libraries log, in the same form. Bad requests are the client's, and no reason for a stack trace."""

    def emit(self, record: logging.LogRecord) -> None:
        """One record."""
        error = record.exc_info[1] if record.exc_info else None
        facts = {"error": f"{type(error).__name__}: {error}"[:500]} if error else {}
        log = structlog.get_logger(record.name)
        log.log(min(record.levelno, logging.WARNING), record.getMessage()[:500], logger=record.name, **facts)


def log_to_stderr(level: str) -> None:
    """One JSON object a line; stdout stays for the line that says ready."""
    logging.basicConfig(handlers=[_Libraries()], level=level.upper(), force=True)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
