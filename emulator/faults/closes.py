"""Every way in which the service was seen to close a connection, by name, for faults to choose from."""

from emulator import texts
from emulator.texts import Reason

CLOSES: dict[str, Reason] = {
    "normal": Reason(1000, "", "the service hangs up without a word", "seen"),
    "going_away": Reason(1001, "", "a front end is taken out of service", "own"),
    "protocol": Reason(1002, "", "something between does not understand a frame", "own"),
    "too_big": Reason(1009, "", "a client's frame is too large", "own"),
    # Lifetime
    "deadline": texts.DEADLINE,
    "go_away": texts.GO_AWAY,
    # Resumption
    "session_not_found": texts.SESSION_NOT_FOUND,
    "entity_not_found": texts.ENTITY_NOT_FOUND,
    "invalid_handle": texts.INVALID_HANDLE,
    # Load, and faults of the service
    "unavailable": texts.UNAVAILABLE,
    "internal": texts.STILL_OPEN,
    "overloaded": Reason(1011, "The model is overloaded. Please try again later.", "a fault of the service", "seen"),
    "keepalive": Reason(1011, "keepalive ping timeout", "what a client's own library says of late pongs", "seen"),
    "resource_exhausted": texts.QUOTA,
    "quota": Reason(
        1011,
        "You exceeded your current quota, please check your plan and billing details. For more information on this "
        "error, head to: https://ai.google.dev/gemini-api/docs/rate-limits.",
        "the quota of spending or of requests",
        "seen",
    ),
    "concurrency": Reason(
        1011,
        "generic::resource_exhausted: RESOURCE_EXHAUSTED: Maximum concurrent sessions exceeded",
        "more sessions of a project at once than it may have, on Vertex",
        "seen",
    ),
    # Tools
    "aborted": texts.ABORTED,
    "not_enabled": texts.NOT_ENABLED,
    # Requests that are not taken
    "invalid_argument": texts.INVALID_ARGUMENT,
    "precondition": texts.PRECONDITION,
    "no_turn": texts.NO_TURN,
    "thinking_not_supported": texts.THINKING_REFUSED,
    "thinking_missing": texts.THINKING_MISSING,
    "blocking_not_supported": texts.BLOCKING_REFUSED,
    "scheduling_not_supported": texts.SCHEDULING_REFUSED,
    "model_not_found": Reason(
        1008,
        texts.MODEL_NOT_FOUND.text.format(model="models/unknown", version="v1beta"),
        texts.MODEL_NOT_FOUND.when,
        texts.MODEL_NOT_FOUND.grade,
    ),
    # Keys and tokens
    "wrong_key": texts.WRONG_KEY,
    "no_key": texts.NO_KEY,
    "token_expired": texts.TOKEN_EXPIRED,
}
