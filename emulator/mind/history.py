"""What the model remembers of a conversation, what of it waits for an answer, and what it costs."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from emulator.configuration.compression import Compression
from emulator.configuration.setup import Config
from emulator.errors import invalid
from emulator.mind.context import Context, Entry
from emulator.mind.usage import NOTHING, TOKENS_PER_PICTURE, Cost, Usage, text_tokens
from emulator.session.handles import Snapshot

_MAX_UNANSWERED = 50


@dataclass(frozen=True)
class Terms:
    """How a setup has its context counted and bounded. Tokens."""

    window: int = 131_072
    compression: Compression | None = None
    full: Literal["refused", "cut"] = "refused"
    """A context that outgrows the window without compression."""
    picture: int = TOKENS_PER_PICTURE[""]
    silence: Literal["billed", "context", "free"] = "billed"
    """Audio that belongs to no utterance: paid for in the turn it was heard in, or kept, or neither."""
    vertex: bool = False
    service_tier: str = ""


def terms(config: Config) -> Terms:
    """What a setup and its switches say."""
    switches = config.switches
    return Terms(
        window=config.rules.context_tokens,
        compression=config.compression,
        full=switches.full_context,
        picture=TOKENS_PER_PICTURE[config.media_resolution],
        silence="context" if config.turn_coverage == "all input" else switches.silence,
        vertex=config.vertex,
        service_tier=switches.service_tier,
    )


class History:
    """The context, which of the user's entries are not answered yet, and what the turn under way adds to the bill.

    What comes from the user raises :class:`emulator.errors.Refusal` when it outgrows the model's window.
    """

    def __init__(
        self, snapshot: Snapshot, how: Terms, *, on_cut: Callable[[Context], None] = lambda context: None
    ) -> None:
        """``on_cut`` is told what is left when the oldest part was cut off."""
        self._terms = how
        self._on_cut = on_cut
        self._context = snapshot.context
        self._unanswered: deque[str] = deque(snapshot.unanswered, maxlen=_MAX_UNANSWERED)
        self._instructions = NOTHING
        self._loose = 0.0
        """Seconds of audio since usage was last told that belong to no entry."""
        self._spoken = 0.0
        """Seconds of the answer under way."""
        self._said = NOTHING
        """Answers since usage was last told, and outcomes of functions."""
        self._results = NOTHING
        self._thoughts = 0

    @property
    def pictures(self) -> int:
        """Pictures that are remembered, streamed or in turns."""
        return self._context.pictures + self._context.images

    @property
    def images(self) -> int:
        """Those of them that came in turns."""
        return self._context.images

    def instruct(self, instructions: str) -> None:
        """System instructions, in place of those before."""
        self._instructions = Cost(text=text_tokens(instructions))

    def listened(self, seconds: float) -> None:
        """Audio came in, speech or not."""
        self._loose += seconds

    def saw(self) -> None:
        """A picture was streamed."""
        self._add(Entry("user", "", Cost(video=self._terms.picture), pictures=1))

    def user(self, text: str, *, spoken: float | None = None, images: int = 0) -> None:
        """The user said something (``spoken``: for so many seconds) or typed it, with images."""
        cost = Cost(image=images * self._terms.picture)
        if spoken is None:
            cost += Cost(text=text_tokens(text))
        else:
            cost += Cost(audio=spoken)
            self._loose -= spoken
            self._keep_silence()
        self._unanswered.append(text)
        self._add(Entry("user", text, cost, images=images))

    def told(self, text: str) -> None:
        """The client says that the model said so; that answers what came before."""
        self._unanswered.clear()
        self._add(Entry("model", text, Cost(text=text_tokens(text))))

    def seeded(self) -> None:
        """The client has told what there was before: compression leaves it alone."""
        self._context = self._context.seeded()

    def spoke(self, seconds: float) -> None:
        """A piece of the answer was sent."""
        self._spoken += seconds

    def thought(self, text: str) -> None:
        """The model thought something. It is paid for once and not remembered."""
        self._thoughts += text_tokens(text)

    def model(self, text: str) -> None:
        """The answer is over, said as far as ``text``."""
        cost, self._spoken = Cost(audio=self._spoken), 0.0
        if text or cost.tokens:
            self._said += cost
            self._add(Entry("model", text, cost))

    def called(self, call: str) -> None:
        """The model called a function, in so many words."""
        cost = Cost(text=text_tokens(call))
        self._said += cost
        self._add(Entry("model", "", cost))

    def result(self, text: str) -> None:
        """A function's outcome."""
        cost = Cost(text=text_tokens(text))
        self._results += cost
        self._add(Entry("tool", text, cost))

    @property
    def asks(self) -> bool:
        """Whether something of the user's waits for an answer."""
        return bool(self._unanswered)

    def take_question(self) -> tuple[str, ...]:
        """The user's entries that wait for an answer, oldest first; they wait no longer."""
        self._compress()
        question = tuple(self._unanswered)
        self._unanswered.clear()
        return question

    def usage(self) -> Usage:
        """What the turn under way costs so far."""
        loose = Cost(audio=self._loose) if self._terms.silence == "billed" else NOTHING
        return Usage(
            prompt=self._instructions + self._context.cost - self._said - self._results + loose,
            response=self._said + Cost(audio=self._spoken),
            results=self._results,
            thoughts=self._thoughts,
        )

    def metadata(self) -> dict[str, Any]:
        """``usageMetadata`` of the turn under way."""
        return self.usage().metadata(vertex=self._terms.vertex, service_tier=self._terms.service_tier)

    def close_turn(self) -> dict[str, Any]:
        """``usageMetadata`` of the turn that ends. From now on its answer is part of the context."""
        self._keep_silence()
        metadata = self.metadata()
        if self._terms.silence == "billed":
            self._loose = 0.0
        self._said = self._results = NOTHING
        self._thoughts = 0
        self._compress()
        return metadata

    def snapshot(self, asked: Iterable[str] = (), said: str = "") -> Snapshot:
        """As it is now. ``asked``: what is or waits to be answered; ``said``: how far the answer under way has come."""
        context = self._context
        if said:
            context = context.grown(Entry("model", said, Cost(audio=self._spoken)))
        return Snapshot(context, (*asked, *self._unanswered))

    def _keep_silence(self) -> None:
        """What was heard beside utterances becomes part of the context, where it does."""
        if self._terms.silence != "context":
            # The beginning of an utterance may have been told with the turn that it interrupted.
            self._loose = max(0.0, self._loose)
        elif self._loose > 0.0:
            silence, self._loose = self._loose, 0.0
            self._add(Entry("user", "", Cost(audio=silence)))

    def _add(self, entry: Entry) -> None:
        if not entry.cost.tokens:
            # Everything costs something, so that nothing can be remembered without bound.
            entry = replace(entry, cost=entry.cost + Cost(text=1))
        self._context = self._context.grown(entry)
        if entry.role == "user" and self._tokens > self._terms.window:
            self._make_room()

    @property
    def _tokens(self) -> int:
        return self._instructions.tokens + self._context.cost.tokens

    def _compress(self) -> None:
        compression = self._terms.compression
        if compression is not None and self._tokens > compression.trigger:
            self._cut(compression.target)

    def _cut(self, tokens: int) -> None:
        before = len(self._context)
        self._context = self._context.cut(tokens - self._instructions.tokens)
        if len(self._context) < before:
            self._on_cut(self._context)

    def _make_room(self) -> None:
        """The context has outgrown the model's window."""
        self._compress()
        if self._tokens > self._terms.window and self._terms.full == "cut":
            self._cut(self._terms.window)
        if self._tokens > self._terms.window:
            raise invalid()
