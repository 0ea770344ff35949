"""Tokens at the documented rates: 25 a second of audio, 258 a picture, one for four characters of text."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

AUDIO_TOKENS_PER_SECOND = 25
TOKENS_PER_PICTURE = 258
CHARACTERS_PER_TOKEN = 4


def text_tokens(text: str) -> int:
    """Tokens of ``text``, at least one unless it is empty."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


@dataclass
class Meter:
    """The context of a conversation and what the turn under way adds."""

    audio_seconds: float = 0.0
    """Audio in the context, of both sides."""
    pictures: int = 0
    text: int = 0
    """Tokens."""
    spoken_seconds: float = 0.0
    """Audio the model has sent in this turn."""
    totals: Counter[str] = field(default_factory=Counter)

    def prompt(self) -> dict[str, int]:
        """Tokens of the context by modality."""
        tokens = {
            "AUDIO": round(self.audio_seconds * AUDIO_TOKENS_PER_SECOND),
            "VIDEO": self.pictures * TOKENS_PER_PICTURE,
            "TEXT": self.text,
        }
        return {modality: count for modality, count in tokens.items() if count}

    def close_turn(self) -> dict[str, Any]:
        """``usageMetadata`` of the turn that ends; its answer becomes part of the context."""
        prompt = self.prompt()
        answer = round(self.spoken_seconds * AUDIO_TOKENS_PER_SECOND)
        metadata: dict[str, Any] = {
            "promptTokenCount": sum(prompt.values()),
            "responseTokenCount": answer,
            "totalTokenCount": sum(prompt.values()) + answer,
            "promptTokensDetails": _details(prompt),
            "responseTokensDetails": _details({"AUDIO": answer} if answer else {}),
        }
        self.totals.update({key: value for key, value in metadata.items() if isinstance(value, int)})
        self.totals["turns"] += 1
        self.audio_seconds += self.spoken_seconds
        self.spoken_seconds = 0.0
        return metadata

    def context(self) -> "Meter":
        """The same context for another link; the totals begin anew."""
        return Meter(audio_seconds=self.audio_seconds, pictures=self.pictures, text=self.text)


def _details(tokens: dict[str, int]) -> list[dict[str, Any]]:
    return [{"modality": modality, "tokenCount": count} for modality, count in tokens.items()]
