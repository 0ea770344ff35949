"""The one place that holds the version of Parley."""

__version__ = "0.1.0"
