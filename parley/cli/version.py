"""`parley version`."""

from parley._version import __version__


def version() -> None:
    """Print the version of Parley."""
    print(__version__)
