"""Tokens at the documented rates, and ``usageMetadata`` as each backend words it."""

from dataclasses import dataclass
from typing import Any

AUDIO_TOKENS_PER_SECOND = 25
TOKENS_PER_PICTURE = {"": 258, "LOW": 64, "MEDIUM": 256, "HIGH": 256}
"""By ``mediaResolution``: a frame of video, or an image in a turn."""
CHARACTERS_PER_TOKEN = 4


def text_tokens(text: str) -> int:
    """Tokens of ``text``, at least one unless it is empty."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a piece of a conversation costs, by modality."""

    audio: float = 0.0
    """Seconds."""
    video: int = 0
    """Tokens, as the rest."""
    image: int = 0
    text: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.audio + other.audio, self.video + other.video, self.image + other.image, self.text + other.text
        )

    def __sub__(self, other: "Cost") -> "Cost":
        """What is left, never less than nothing: what is taken away may have been cut off before."""
        return Cost(
            max(0.0, self.audio - other.audio),
            max(0, self.video - other.video),
            max(0, self.image - other.image),
            max(0, self.text - other.text),
        )

    def by_modality(self) -> dict[str, int]:
        """Tokens of each modality there is any of."""
        tokens = {
            "AUDIO": round(self.audio * AUDIO_TOKENS_PER_SECOND),
            "VIDEO": self.video,
            "IMAGE": self.image,
            "TEXT": self.text,
        }
        return {modality: count for modality, count in tokens.items() if count}

    @property
    def tokens(self) -> int:
        """All of it."""
        return round(self.audio * AUDIO_TOKENS_PER_SECOND) + self.video + self.image + self.text


NOTHING = Cost()


@dataclass(frozen=True, slots=True)
class Usage:
    """One turn, or as much of it as there is yet."""

    prompt: Cost
    """The whole context that the turn was generated from: it is paid for again in every turn."""
    response: Cost
    results: Cost = NOTHING
    """Outcomes of functions taken in during the turn; from the next turn on they are part of the prompt."""
    thoughts: int = 0

    def metadata(self, *, vertex: bool = False, service_tier: str = "") -> dict[str, Any]:
        """``usageMetadata``. Vertex calls a response candidates, and says what kind of traffic it was."""
        answer = "candidates" if vertex else "response"
        metadata: dict[str, Any] = {
            "promptTokenCount": self.prompt.tokens,
            f"{answer}TokenCount": self.response.tokens,
            "totalTokenCount": self.prompt.tokens + self.response.tokens + self.results.tokens + self.thoughts,
            "promptTokensDetails": _details(self.prompt),
            f"{answer}TokensDetails": _details(self.response),
        }
        if self.results.tokens:
            metadata["toolUsePromptTokenCount"] = self.results.tokens
            metadata["toolUsePromptTokensDetails"] = _details(self.results)
        if self.thoughts:
            metadata["thoughtsTokenCount"] = self.thoughts
        if vertex:
            metadata["trafficType"] = "ON_DEMAND"
        elif service_tier:
            metadata["serviceTier"] = service_tier
        return metadata


def _details(cost: Cost) -> list[dict[str, Any]]:
    return [{"modality": modality, "tokenCount": count} for modality, count in cost.by_modality().items()]
