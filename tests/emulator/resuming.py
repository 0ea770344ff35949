"""What tests of resumption have in common."""

from dataclasses import replace
from typing import Any

from emulator import models
from emulator.configuration.setup import Config
from emulator.session.handles import HandleStore
from emulator.session.resumption import Resumption
from tests.emulator.service import Line

WEATHER = {"name": "get_weather", "parameters": {"properties": {"city": {"type": "STRING"}}, "required": ["city"]}}
TOOLS = [{"functionDeclarations": [WEATHER]}]
TURN = 20.0
"""Longer than any answer."""
QUIET = bytes(32000)


def one_turn(line: Line, text: str = "hello") -> str:
    """A typed turn and its answer; the handle that came with it."""
    line.ask(text)
    line.later(TURN)
    return line.handles[-1]


RESUME, FIND = HandleStore.resume, models.find
"""As they are while a behaviour is turned off by what stands in their place."""


def opaque(config: Config, *args: Any) -> Resumption:
    """Resumption without transparency, though the setup asks for it."""
    return Resumption(replace(config, transparent=False), *args)
