"""``python -m emulator``: the server without the rest of the command line."""

import sys

import typer
from pydantic import ValidationError

from emulator.cli import EX_CONFIG, command


def main() -> None:
    """Run, and say what is wrong with the settings in one line."""
    try:
        typer.main.get_command(command)(standalone_mode=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        sys.stderr.write(f"emulator: setting {where}: {first['msg']}\n")
        sys.exit(EX_CONFIG)


if __name__ == "__main__":
    main()
