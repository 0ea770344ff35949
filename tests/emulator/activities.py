"""What tests of activity have in common."""

from dataclasses import replace
from typing import Any

from emulator.configuration.setup import Config, accept
from tests.emulator.behaviour import Off, patched
from tests.emulator.caller import Caller

NATIVE = "gemini-2.5-flash-native-audio-preview-12-2025"
FLASH = "gemini-3.1-flash-live-preview"
START, END = {"realtimeInput": {"activityStart": {}}}, {"realtimeInput": {"activityEnd": {}}}
SPEECH = bytes(6400)
"""A fifth of a second."""


def configured(**fields: Any) -> Off:
    """Off by a setup that is read otherwise."""
    return patched("tests.emulator.caller.accept", lambda *given, **how: replace(accept(*given, **how), **fields))


def ruled(**fields: Any) -> Off:
    """Off by a model that does otherwise."""

    def accepted(*given: Any, **how: Any) -> Config:
        config = accept(*given, **how)
        return replace(config, rules=replace(config.rules, **fields))

    return patched("tests.emulator.caller.accept", accepted)


def realtime(**config: Any) -> dict[str, Any]:
    """Fields of a setup."""
    return {"realtimeInputConfig": config}


def spoken(caller: Caller) -> list[str]:
    """What was answered, in words."""
    caller.until(caller.now + 60)
    return [said["text"] for said in caller.said()]


def contents(caller: Caller, name: str) -> list[dict[str, Any]]:
    """What the latest messages say under a name of serverContent."""
    return [m["serverContent"][name] for m in caller.messages if name in m.get("serverContent", {})]
