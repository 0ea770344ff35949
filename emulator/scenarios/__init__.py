"""The scenarios that come with the emulator: YAML files read by :mod:`emulator.scenarios.scenario`."""
