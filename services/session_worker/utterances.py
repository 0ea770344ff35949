"""Where in the input the caller speaks. Plain code: the time is an argument."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from services.session_worker.input_queue import AudioBatch
from services.session_worker.sent_input import Sent, ends_stream, is_sound, marks_speech, stands_alone
from services.session_worker.voice import has_voice

LEAD: Final = 0.3
"""Seconds of audio given before the first sound: consonants begin below the threshold, and recognisers look back."""
BREATH: Final = 0.2
"""Seconds of silence before an answer after which it is to what was said: a caller may have told the model to wait no
longer than that."""
AT_ONCE: Final = 0.5
"""Seconds of silence that end what is said: no model waits less by itself. A pause between words is shorter."""
_PAUSE: Final = 2.0
"""Seconds of silence that end what was said for sure: the service takes a while to find that it is over."""
_STALL: Final = 5.0
"""Seconds for which the audio of one who speaks may not come."""


class Utterances:
    """What is said in audio of one rate."""

    def __init__(self, rate: int) -> None:
        """`rate`: hertz."""
        self._bytes_per_second = rate * 2

    def seconds(self, audio: AudioBatch) -> float:
        """How long it sounds."""
        return len(audio.pcm) / self._bytes_per_second

    def goes_on(self, newest_first: Iterable[Sent], now: float) -> bool:
        """Whether the caller may be in the middle of what it says: no silence has come that ends it. One of whom
        nothing comes at all, not even silence, is done in the end."""
        silence = 0.0
        for sent in newest_first:
            if is_sound(sent):
                return sent.at > now - _STALL
            if isinstance(sent.item, AudioBatch):
                silence += self.seconds(sent.item)
                if silence >= _PAUSE:
                    return False
            elif not stands_alone(sent.item):  # it says itself that it is done
                return sent.at > now - _PAUSE
        return False

    def under_way(self, sent: Sequence[Sent], then: float, *, cut_off: bool, spoken: bool) -> int | None:
        """Where in this the speech begins that was under way at that time, or has begun since; None: there is none.

        It goes back to a pause that ends what is said. Without any, sounds are noise where the question was `spoken`:
        it has ended, or the model would not speak. Of noise, only what came at once before is certain to be new, and
        none where it has ended as well. That the model speaks of nothing cannot be: what was said since then and has
        ended is its question, where nothing was said before. It came quicker than thought, or faster than it was said.
        """
        mark = next((at for at in range(len(sent) - 1, -1, -1) if marks_speech(sent[at].item)), -1)
        if mark >= 0 and not ends_stream(sent[mark].item):
            return mark if is_sound(sent[mark]) else None
        since = next((at for at, each in enumerate(sent) if each.at > then), len(sent))
        first = at_once = next((at for at in range(since, len(sent)) if is_sound(sent[at])), None)
        answered = spoken and not cut_off and self._is_over(sent)
        if answered and not any(is_sound(each) for each in sent[mark + 1 : since]):
            return None
        pause = AT_ONCE if cut_off or first is not None else BREATH
        ago = silence = 0
        for at in range((since if first is None else first) - 1, mark, -1):
            item = sent[at].item
            if not isinstance(item, AudioBatch):
                continue
            if has_voice(item.pcm):
                first, silence, pause = at, 0, AT_ONCE
                at_once = at if ago <= AT_ONCE * self._bytes_per_second else at_once
            else:
                silence += len(item.pcm)
                if silence >= pause * self._bytes_per_second:
                    return first
            ago += len(item.pcm)
        if answered:
            return None
        return at_once if spoken and not cut_off else first

    def _is_over(self, sent: Sequence[Sent]) -> bool:
        """Nothing was said in the last breath."""
        silence = 0.0
        for each in reversed(sent):
            if is_sound(each):
                return False
            if isinstance(each.item, AudioBatch):
                silence += self.seconds(each.item)
                if silence >= BREATH:
                    return True
        return False

    def lead(self, sent: Sequence[Sent], first: int) -> int:
        """Where the silence right before this begins that is given with it."""
        size, most = 0, LEAD * self._bytes_per_second
        while first > 0 and isinstance(before := sent[first - 1].item, AudioBatch):
            # What waited together came as one, and may be longer than that by itself.
            size += len(before.pcm)
            if has_voice(before.pcm) or (size > most and size > len(before.pcm)):
                break
            first -= 1
        return first

    def from_first_sound(self, sent: list[Sent]) -> list[Sent]:
        """Without the silence before the first sound; without audio, and what only means something with it, where
        there is no sound at all."""
        first = next((at for at, each in enumerate(sent) if is_sound(each)), None)
        if first is None:
            return [each for each in sent if stands_alone(each.item)]
        first = self.lead(sent, first)
        return [each for at, each in enumerate(sent) if at >= first or stands_alone(each.item)]
