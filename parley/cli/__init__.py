"""The `parley` command: `main` is its entry point, `parley.cli.stack` and `parley.cli.otlp` also serve tests.

Without the extra `cli` only `parley version` works; everything else says what to install.
"""

import sys

from parley._version import __version__

EX_UNAVAILABLE = 69
"""Exit status of sysexits.h: something that the command needs is not there."""


def main(argv: list[str] | None = None) -> int:
    """Runs the command with `argv` (default: the process's arguments) and returns its exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments in (["version"], ["--version"]):
        print(__version__)
        return 0
    try:
        import typer  # noqa: F401 - only whether it is there
    except ImportError:
        print("parley: this command needs more than the client: pip install 'parley[cli]'", file=sys.stderr)
        return EX_UNAVAILABLE
    from parley.cli._run import run

    return run(arguments)
