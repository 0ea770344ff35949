"""Commands and settings of the services: found by entry point, loaded only when asked for.

A service whose libraries are not installed stays visible and says which extra to install; it never breaks the rest.
"""

import re
import sys
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, entry_points, requires
from typing import Any

from parley.cli._failures import EX_UNAVAILABLE, CliError

_REQUIREMENT = re.compile(r"^\s*([A-Za-z0-9_.-]+)(?:\[([^\]]*)\])?")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")


_OURS = frozenset({"parley", "services", "emulator"})


def service_points(group: str) -> list[EntryPoint]:
    """The entry points of a group, by name."""
    return sorted(entry_points(group=group), key=lambda point: point.name)


def load(point: EntryPoint) -> Any:
    """What an entry point names. CliError (69) says what to install when it cannot be imported."""
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise unavailable(point.name, error) from error


def unavailable(service: str, error: BaseException) -> CliError:
    """What to install for a service that cannot be imported; status 69."""
    missing = missing_for(service)
    why = f"needs {', '.join(missing)}: pip install 'parley[{service}]'" if missing else f"cannot be loaded: {error}"
    return CliError(f"{service} {why}", EX_UNAVAILABLE)


def is_foreign(error: BaseException) -> bool:
    """A module of somebody else is missing: one of ours, or of Python's, would be a fault of ours."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return False
    top = error.name.partition(".")[0]
    return top not in _OURS and top not in sys.stdlib_module_names


def missing_for(extra: str) -> list[str]:
    """The distributions that the extra `parley[<extra>]` wants and that are not installed."""
    try:
        wanted = requires("parley") or []
    except PackageNotFoundError:
        return []
    return sorted(name for name in _names(extra, wanted, set()) if not _installed(name))


def _names(extra: str, requirements: list[str], seen: set[str]) -> set[str]:
    """Names that an extra brings, through extras that name other extras of parley."""
    seen.add(extra)
    names: set[str] = set()
    for requirement in requirements:
        marker = _EXTRA.search(requirement)
        match = _REQUIREMENT.match(requirement)
        if marker is None or marker.group(1) != extra or match is None:
            continue
        name, extras = match.group(1), match.group(2)
        if name.lower() != "parley":
            names.add(name)
        else:
            for other in (extras or "").split(","):
                if other.strip() not in seen:
                    names |= _names(other.strip(), requirements, seen)
    return names


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
