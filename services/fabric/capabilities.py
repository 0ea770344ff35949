"""What each model and backend accepts and how it behaves. The only place where a model's name means anything.

Sources: Gemini Live documentation and field reports as of November 2026. Refusing what a model does not accept before
anything is connected stands on this table; so far it tells known models and the traits that the worker acts on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ModelCapabilities:
    """One model's traits."""

    text_output: bool = False
    """It can answer in text instead of speech."""
    default_non_blocking: bool = False
    """Functions without a behaviour do not block the conversation; the turn then completes at the call."""
    blocking_tools: bool = True
    """It takes functions that block the conversation."""
    non_blocking_tools: bool = True
    """It takes functions that do not."""
    idle_by_interaction_status: bool = False
    """`interactionStatus: IDLE`, not `turnComplete`, says that the model is idle."""


MODELS: Final[dict[str, ModelCapabilities]] = {
    "gemini-3.8-live": ModelCapabilities(default_non_blocking=True),
    "gemini-3.8-live-extended-thinking": ModelCapabilities(
        default_non_blocking=True, blocking_tools=False, idle_by_interaction_status=True
    ),
    "gemini-3.1-flash-live-preview": ModelCapabilities(non_blocking_tools=False),
    "gemini-2.5-flash-native-audio-preview-12-2025": ModelCapabilities(),
}


def capabilities_of(model: str) -> ModelCapabilities | None:
    """The traits of a model, named as in the API or with the prefix `models/`; None when it is not known."""
    return MODELS.get(model.removeprefix("models/"))
