"""Errors as an answer: one line that says what is wrong and what to do, and the exit status for it.

Statuses are those of sysexits.h where one fits: 69 unavailable, 70 a fault of ours, 77 not allowed, 78 wrong setting.
"""

import sys
from importlib.metadata import entry_points
from typing import Any

from parley import errors

EX_FAILED = 1
EX_UNAVAILABLE = 69
EX_SOFTWARE = 70
EX_TEMPFAIL = 75
EX_NOPERM = 77
EX_CONFIG = 78
EX_INTERRUPTED = 130
EX_PIPE = 141
"""What a shell reports for a process that SIGPIPE ended."""

_STATUS: dict[type[errors.ParleyError], int] = {
    errors.Unavailable: EX_UNAVAILABLE,
    errors.Unauthenticated: EX_NOPERM,
    errors.PermissionDenied: EX_NOPERM,
}


class CliError(Exception):
    """The command cannot go on; the message is one line for the user."""

    def __init__(self, message: str, status: int = EX_FAILED) -> None:
        super().__init__(message)
        self.status = status
        """Exit status."""


def report(error: BaseException) -> int:
    """Writes one line (for wrong settings: one each) to stderr and returns the exit status."""
    lines, status = explain(error)
    for line in lines:
        print(f"parley: {line}", file=sys.stderr)
    return status


def explain(error: BaseException) -> tuple[list[str], int]:
    """What to tell the user about an error, and the exit status."""
    error = single(error)
    if isinstance(error, CliError):
        return [str(error)], error.status
    if (status := _own_status(error)) is not None:
        return [" ".join(str(error).split()) or type(error).__name__], status
    if isinstance(error, errors.ParleyError):
        return [f"{error}. {error.what_to_do}"], _STATUS.get(type(error), EX_FAILED)
    if (settings := _wrong_settings(error)) is not None:
        return settings, EX_CONFIG
    if isinstance(error, OSError):
        return [str(error)], EX_FAILED
    fault = f"{type(error).__name__}: {error}"
    return [f"internal error: {fault} (set PARLEY_TRACEBACK=1 for the stack trace, and report it)"], EX_SOFTWARE


def single(error: BaseException) -> BaseException:
    """The error itself where groups hold nothing but one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _own_status(error: BaseException) -> int | None:
    """The exit status that an error names itself: its attribute `exit_status`, 1 to 255.

    Known by the attribute and not by the class, because the services raise it and nothing here may import them.
    """
    status = getattr(error, "exit_status", None)
    return status if isinstance(status, int) and not isinstance(status, bool) and 0 < status < 256 else None


def _wrong_settings(error: BaseException) -> list[str] | None:
    """Lines for pydantic's complaint about settings; None when the error is something else."""
    if "pydantic" not in sys.modules:
        return None
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        settings = next((cls for cls in _loaded_settings() if cls.__name__ == error.title), None)
        return None if settings is None else [_setting_line(settings, detail) for detail in error.errors()]
    if type(error).__name__ == "SettingsError" and type(error).__module__.startswith("pydantic_settings"):
        # Raised before validation, e.g. for text that should have been JSON; it names the field, not the variable.
        for cls in _loaded_settings():
            for name in cls.model_fields:
                if f'"{name}"' in str(error):
                    return [f"{variable(cls, name)}: expected JSON. {cls.model_fields[name].description}"]
        return [str(error)]
    return None


def _setting_line(settings: Any, detail: Any) -> str:
    name = str(detail["loc"][0]) if detail["loc"] else ""
    field = settings.model_fields.get(name)
    said = str(detail["msg"]).removeprefix("Value error, ")
    if field is None:
        return said
    inner = "".join(f"[{part}]" for part in detail["loc"][1:])
    given = "is not set" if detail["type"] == "missing" else f"is {_shown(field, detail['input'])}"
    return f"{variable(settings, name)}{inner} {given}: {said[:1].lower()}{said[1:]}. {field.description}"


def variable(settings: Any, name: str) -> str:
    """The environment variable of a field of a pydantic-settings class."""
    alias = settings.model_fields[name].validation_alias
    if isinstance(alias, str):
        return alias
    prefix = settings.model_config.get("env_prefix", "")
    return f"{prefix}{name}".upper()


def is_secret(field: Any) -> bool:
    """Whether a field's value must not be shown."""
    return "Secret" in str(field.annotation)


def _shown(field: Any, value: Any) -> str:
    return "(secret)" if is_secret(field) else repr(value)


def _loaded_settings() -> list[Any]:
    """The settings classes whose service this process has loaded; loading another one would only hide the error."""
    found = []
    for point in entry_points(group="parley.settings"):
        module = sys.modules.get(point.module)
        if module is not None and (cls := getattr(module, point.attr, None)) is not None:
            found.append(cls)
    return found
