"""What a client is told in words of what it said, and of what the model says."""

from collections.abc import Iterable
from typing import Any

from emulator.api import protocol
from emulator.configuration.setup import Config

Message = dict[str, Any]


def _content(name: str, **transcription: Any) -> Message:
    return {"serverContent": {name: transcription}}


class _Writer:
    """Transcriptions with the fields that the switches add."""

    def __init__(self, config: Config) -> None:
        self._language = config.switches.transcript_language
        self._finishes = config.switches.transcript_finished

    def transcription(self, text: str, *, last: bool) -> dict[str, Any]:
        fields: dict[str, Any] = {"text": text}
        if self._language:
            fields["languageCode"] = self._language
        if last and self._finishes:
            fields["finished"] = True
        return fields

    def messages(self, name: str, pieces: list[str]) -> list[Message]:
        final = len(pieces) - 1
        return [_content(name, **self.transcription(piece, last=index == final)) for index, piece in enumerate(pieces)]


class InputTranscript:
    """Of one utterance of the caller's."""

    def __init__(self, config: Config) -> None:
        switches, rules = config.switches, config.rules
        self._writer = _Writer(config)
        self._wanted = config.input_transcription or rules.transcribes_unasked
        style = switches.input_transcript
        self._by_words = style in ("words", "streamed") or (style == "model" and rules.transcribes_words)
        self._streams = self._wanted and style == "streamed"
        self._dates = config.interim_timestamps
        interim = switches.interim_transcripts
        asked = config.interim_timestamps or rules.interim_transcripts
        self._interim = self._wanted and (interim == "always" or (interim == "asked" and asked))
        self._guess: list[str] = []
        self._sent = 0
        """Words of the utterance that have been sent."""

    @property
    def guesses(self) -> bool:
        """Whether it wants to know what is being said before it has been said."""
        return self._interim or self._streams

    def guessed(self, text: str, began: float, until: float) -> list[Message]:
        """The words so far of the utterance under way; when it began and how far this goes, in seconds of audio."""
        words, before = text.split(), self._guess
        if words == before:
            return []
        self._guess = words
        messages: list[Message] = []
        if self._interim:
            fields = self._writer.transcription(text, last=False)
            if self._dates:
                fields |= {"startOffset": protocol.seconds(began), "endOffset": protocol.seconds(until)}
            messages.append(_content("interimInputTranscription", **fields))
        if self._streams:
            # What two guesses in a row have in common will stay; the word being spoken may yet become another.
            settled = _in_common(before, words[:-1])
            messages += self._send_words(words[self._sent : settled])
        return messages

    def understood(self, sentence: str | None, unknown: str) -> list[Message]:
        """The utterance is over; ``unknown`` stands for one that was not understood."""
        if not self._wanted:
            return []
        if not self._by_words:
            pieces = [unknown if sentence is None else sentence]
        elif sentence is None:
            # Words that have been told already are not taken back.
            pieces = [] if self._sent else [f"{unknown} "]
        else:
            pieces = [f"{word} " for word in sentence.split()[self._sent :]]
        return self._writer.messages("inputTranscription", pieces)

    def _send_words(self, words: list[str]) -> list[Message]:
        self._sent += len(words)
        return [_content("inputTranscription", **self._writer.transcription(f"{word} ", last=False)) for word in words]


class OutputTranscript:
    """Of the model's answers."""

    def __init__(self, config: Config) -> None:
        self._writer = _Writer(config)
        self._wanted = config.output_transcription
        self._order = config.switches.output_transcript_order
        self._finishes = config.switches.transcript_finished

    def ahead(self, words: Iterable[str]) -> list[Message]:
        """The answer begins."""
        return self._whole(words) if self._order == "before" else []

    def beside(self, words: tuple[str, ...]) -> dict[str, Any] | None:
        """The transcription in the frame of the audio that speaks ``words``."""
        if not words or not self._wanted or self._order != "beside":
            return None
        return self._writer.transcription(" ".join(words) + " ", last=False)

    def behind(self, words: Iterable[str]) -> list[Message]:
        """All of the answer's audio has been sent."""
        if self._order == "after":
            return self._whole(words)
        if self._order == "beside" and self._wanted and self._finishes:
            return self._writer.messages("outputTranscription", [""])
        return []

    def _whole(self, words: Iterable[str]) -> list[Message]:
        return self._writer.messages("outputTranscription", [" ".join(words)]) if self._wanted else []


def _in_common(left: list[str], right: list[str]) -> int:
    """How many words both begin with."""
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count
