"""The function that most tests of tools declare, and callers that ask for it."""

from typing import Any

from tests.emulator.caller import Caller

NATIVE = "gemini-2.5-flash-native-audio-preview-12-2025"
THINKING = "gemini-3.8-live-extended-thinking"
LEVEL = {"generationConfig": {"thinkingConfig": {"thinking_level": "LOW"}}}
LATER = 90.0
CITY = {"properties": {"city": {"type": "STRING"}}, "required": ["city"]}
PARIS = {"city": "paris", "condition": "sunny", "temperature_celsius": 21}
ASKED = "what is the weather in paris"
ANSWER = "it is sunny in paris and twenty one degrees"
BOTH = {
    "name": "both",
    "hear": "hello",
    "call": [
        {"tool": "get_weather", "args": {"city": "paris"}, "as": "first"},
        {"tool": "get_weather", "args": {"city": "london"}, "as": "second"},
    ],
    "say": "it is <first.condition> in paris and <second.condition> in london",
}


def weather(**fields: Any) -> dict[str, Any]:
    """The setup's tools."""
    return {"tools": [{"functionDeclarations": [{"name": "get_weather", "parameters": CITY, **fields}]}]}


BLOCKING = weather(behavior="BLOCKING")


def asked(model: str = "gemini-3.8-live", **options: Any) -> Caller:
    """A caller for whom the weather is being looked up; the latest messages are those of the call."""
    caller = Caller(model, **{**weather(), **options})
    caller.ask(ASKED)
    return caller


def texts(caller: Caller) -> list[str]:
    """What the model says until it has nothing left to say."""
    caller.until(caller.now + LATER)
    return [said["text"] for said in caller.said()]


def contents(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every serverContent."""
    return [message["serverContent"] for message in messages if "serverContent" in message]
