"""Every reason for which the emulator closes a connection by itself: code, text, when, and how well it is known.

A text may have places, ``{model}``, for what varies. On the wire it is cut at 123 bytes.
"""

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from emulator.errors import MAX_REASON_BYTES, Refusal

Grade = Literal["documented", "seen", "analogous", "own"]
"""``documented``: Google's documentation or SDK; ``seen``: client authors quote it from the Live service;
``analogous``: the service's words for the same mistake elsewhere (its REST API, its JSON parser); ``own``: the
emulator's words."""

_PLACE = re.compile(r"\{\w+\}")


@dataclass(frozen=True)
class Reason:
    """One reason."""

    code: int
    text: str
    when: str
    grade: Grade = field(compare=False)

    def refusal(self, **places: object) -> Refusal:
        """The close, with its places filled in."""
        return Refusal(self.code, self.text.format(**places) if places else self.text)

    def fits(self, code: int, reason: str) -> bool:
        """Whether a close frame with this code and reason, whole or cut, has this reason."""
        if code != self.code:
            return False
        if self._whole.fullmatch(reason):
            return True
        if len(reason.encode()) <= MAX_REASON_BYTES - 4:
            return False
        # What is left of a cut text ends somewhere in its first words or somewhere behind them.
        first, *rest = self._pieces
        if not first:
            return rest[0][:20] in reason
        return first.startswith(reason) or (bool(rest) and reason.startswith(first))

    @cached_property
    def _pieces(self) -> list[str]:
        return _PLACE.split(self.text)

    @cached_property
    def _whole(self) -> re.Pattern[str]:
        return re.compile(".*".join(map(re.escape, self._pieces)), re.DOTALL)


# Frames

INVALID_ARGUMENT = Reason(1007, "Request contains an invalid argument.", "a message that fits nothing", "documented")
UNKNOWN_NAME = Reason(
    1007,
    'Invalid JSON payload received. Unknown name "{name}"{place}: Cannot find field.',
    "a field that this version of the API does not have",
    "seen",
)
NO_MESSAGE = Reason(
    1007,
    'Invalid JSON payload received. Unknown name "": Root element must be a message.',
    "a frame that is JSON but no object",
    "analogous",
)
BAD_VALUE = Reason(1007, "Invalid value at '{path}' ({type}), {value}", "a value of the wrong type", "seen")
SET_TWICE = Reason(
    1007,
    "Invalid value{place} (oneof), oneof field '{group}' is already set. Cannot set '{name}'",
    "two fields of which only one may be set",
    "analogous",
)
NOT_REPEATED = Reason(
    1007,
    'Invalid JSON payload received. Unknown name "{name}"{place}: Proto field is not repeating, cannot start list.',
    "a list where one value belongs",
    "analogous",
)
NOT_MESSAGE = Reason(
    1007,
    'Invalid JSON payload received. Unknown name "{name}"{place}: Starting an object on a scalar field.',
    "an object where one value belongs",
    "analogous",
)
MALFORMED = Reason(
    1007, "Invalid JSON payload received. {what}\n{excerpt}\n{caret}", "a frame that is not JSON", "analogous"
)
NOT_TEXT = Reason(
    1007, "Invalid JSON payload received. Encountered non UTF-8 code points.", "a frame that is not UTF-8", "analogous"
)
TOO_DEEP = Reason(
    1007,
    "Invalid JSON payload received. Message too deep. Max recursion depth reached.",
    "a frame of many levels",
    "analogous",
)
LONE_SURROGATE = Reason(
    1007, "Invalid JSON payload received. Missing low surrogate.", "half a character as an escape", "analogous"
)
TOO_BIG = Reason(1009, "Message size {size} exceeds limit {limit}", "a frame larger than the emulator takes", "own")

# Beginning

SETUP_FIRST = Reason(
    1007, "setup must be the first message and only the first", "another first message, or a second setup", "seen"
)
SETUP_LATE = Reason(1008, "Setup was not received in time.", "no setup for as long as the emulator waits", "own")
MODEL_MISSING = Reason(1007, "model is required", "a setup without a model", "own")
MODEL_NOT_FOUND = Reason(
    1008,
    "{model} is not found for API version {version}, or is not supported for bidiGenerateContent. Call "
    "ModelService.ListModels to see the list of available models and their supported methods.",
    "a model that is unknown, shut down, or not on this version (Developer API)",
    "seen",
)
MODEL_NOT_FOUND_VERTEX = Reason(
    1008,
    "Publisher model `{model}` was not found or your project does not have access to it. Ensure you are using a valid "
    "model name and that the model is available in the specified region.",
    "the same on Vertex",
    "seen",
)
NOT_EMULATED = Reason(
    1008, "Not emulated: {what}", "a model of the service that the emulator cannot stand in for", "own"
)

# Setup

TEXT_REFUSED = Reason(
    1007,
    "The requested combination of response modalities ({modalities}) is not supported by the model",
    "a response modality that the model does not have",
    "seen",
)
THINKING_REFUSED = Reason(
    1007, "Thinking level is not supported for this model.", "a thinking level on 3.8 and 2.5", "seen"
)
LEVEL_REFUSED = Reason(
    1007, "Thinking level {level} is not supported for this model.", "MINIMAL where the model needs more", "seen"
)
THINKING_MISSING = Reason(
    1007, "Thinking level must be specified for this model.", "extended thinking without a level", "seen"
)
BLOCKING_REFUSED = Reason(
    1007, "BLOCKING function calls are not supported for this model.", "a function that is not NON_BLOCKING", "seen"
)
TOOL_REFUSED = Reason(1007, "{tool} tool is not supported for this model", "a built-in tool other than search", "seen")
PROACTIVITY_REFUSED = Reason(
    1007, "Proactive audio is not supported for this model.", "proactivity on 3.1 and half-cascade", "own"
)
VOICE_UNKNOWN = Reason(
    1007,
    "Requested voice api_name '{voice}' is not available for model {model}",
    "a voice that the model does not have",
    "seen",
)
LANGUAGE_REFUSED = Reason(
    1007,
    "Unsupported language code '{language}' for model {model}",
    "a speech language the model does not take",
    "seen",
)
VOICE_WITHOUT_AUDIO = Reason(
    1007, "Cannot extract voices from a non-audio request.", "a voice beside the response modality TEXT", "seen"
)
INVALID_FIELD = Reason(
    1007,
    "* BidiGenerateContentRequest.{path}: {rule}\n",
    "a number beyond its limits, a function declaration with a bad name or schema",
    "seen",
)
DUPLICATE_FUNCTION = Reason(
    1007, "Duplicate function declaration found: {name}", "two functions of one name", "analogous"
)

# Conversation

MEDIA_CHUNKS_REFUSED = Reason(
    1007,
    "realtime_input.media_chunks is deprecated. Use audio, video, or text instead.",
    "the old form of realtime input on 3.x",
    "seen",
)
MARKERS_REFUSED = Reason(
    1007,
    "Explicit activity control is not supported when automatic activity detection is enabled.",
    "activityStart or activityEnd with automatic detection",
    "seen",
)
AUDIO_ONLY = Reason(
    1007, "Only audio input is supported by this model.", "anything but audio to the transcription model", "own"
)
AUDIO_REFUSED = Reason(
    1007,
    "Audio must be audio/pcm of 8000 to 48000 Hz, 16 bit, mono, as in audio/pcm;rate=16000; this is {type}",
    "audio of another kind",
    "own",
)
PICTURE_REFUSED = Reason(1007, "Unable to process input image.", "a picture that is none", "analogous")
ROLE_REFUSED = Reason(
    1007, "Please use a valid role: user, model.", "another role in a turn; system on the Developer API", "analogous"
)
NO_TURN = Reason(1007, "No turn to complete", "an end with nothing before it", "seen")
PRECONDITION = Reason(1007, "Precondition check failed.", "audio in seeded history on 2.5", "seen")
NOT_ENABLED = Reason(
    1008,
    "Operation is not implemented, or supported, or enabled.",
    "24 kHz audio in a turn; realtime audio while a blocking call is pending (switch)",
    "seen",
)
ABORTED = Reason(1008, "The operation was aborted.", "realtime audio while a blocking call is pending", "seen")
SCHEDULING_REFUSED = Reason(
    1007,
    "Function response scheduling is not supported for this model.",
    "scheduling on extended thinking",
    "seen",
)

# Keys and tokens

WRONG_KEY = Reason(1007, "API key not valid. Please pass a valid API key.", "a key that is not accepted", "seen")
NO_KEY = Reason(
    1008,
    "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other "
    "form of API consumer identity to call this API.",
    "no key, or a token that does not exist",
    "seen",
)
TOKEN_EXPIRED = Reason(1008, "The auth token has expired.", "a token past its expireTime", "own")
TOKEN_TOO_LATE = Reason(
    1008,
    "The auth token no longer starts new sessions: its new_session_expire_time has passed.",
    "a new session with a token past its newSessionExpireTime",
    "own",
)
TOKEN_USED_UP = Reason(1008, "The auth token has no uses left.", "one session more than a token is for", "own")
TOKEN_MODEL = Reason(
    1007,
    "token-based requests cannot use project-scoped features such as tuned models",
    "a token and a model that does not exist",
    "seen",
)

# Resumption and lifetime

SESSION_NOT_FOUND = Reason(1008, "BidiGenerateContent session not found", "a dead handle", "seen")
ENTITY_NOT_FOUND = Reason(1008, "Requested entity was not found.", "a dead handle (switch)", "seen")
INVALID_HANDLE = Reason(1007, "Invalid session handle", "a dead handle (switch)", "seen")
STILL_OPEN = Reason(
    1011, "Internal error encountered.", "resuming a session that is open; a fault of the emulator's own", "seen"
)
DEADLINE = Reason(1011, "Deadline expired before operation could complete.", "the connection's limit on 2.5", "seen")
GO_AWAY = Reason(
    1008,
    "Connection aborted because the client failed to close the connection after receiving a GoAway signal once the "
    "session duration expired.",
    "the connection's limit on 3.x",
    "seen",
)
GOING_AWAY = Reason(1001, "The server is going away.", "the emulator is stopped", "own")
UNAVAILABLE = Reason(1011, "The service is currently unavailable.", "a fault asked for", "seen")
QUOTA = Reason(
    1011,
    "RESOURCE_EXHAUSTED: Resource has been exhausted (e.g. check quota).",
    "more connections than the quota allows",
    "seen",
)

REASONS: tuple[Reason, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Reason))


def documented(code: int, reason: str | bytes) -> Reason | None:
    """The reason that a close frame has; None for one that the emulator should never send."""
    text = reason.decode() if isinstance(reason, bytes) else reason
    # Mistakes in a message are told one a line.
    first = text.partition("\n")[0]
    return next((one for one in REASONS if one.fits(code, text) or one.fits(code, first)), None)
