"""Every span and attribute name. The only file that knows them (OpenTelemetry's own where they exist); metrics are in
`metrics`."""

from __future__ import annotations

from typing import Final

# Spans
SPAN_OPEN: Final = "parley.open"
SPAN_PLACE: Final = "parley.place"
SPAN_CONNECT: Final = "parley.connect"
SPAN_ROTATE: Final = "parley.rotate"
"""From a link to the next one on the same worker, whatever the cause."""
SPAN_RECOVER: Final = "parley.recover"
"""The first link of a worker that took the session over. Both begin when the model heard the caller last."""
SPAN_TURN: Final = "parley.turn"
SPAN_TOOL_CALL: Final = "execute_tool"
"""Followed by the tool's name (semantic conventions, gen_ai); CLIENT in the worker, SERVER in the tools service."""
SPAN_COMPENSATE: Final = "parley.compensate"
"""Followed by the tool's name: undoing a call whose result nobody wants."""

# Attributes of OpenTelemetry's semantic conventions
SESSION_ID: Final = "session.id"
ERROR_TYPE: Final = "error.type"
RPC_SYSTEM: Final = "rpc.system"
RPC_METHOD: Final = "rpc.method"
MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_DESTINATION: Final = "messaging.destination.name"
GEN_AI_SYSTEM: Final = "gen_ai.provider.name"
GEN_AI_MODEL: Final = "gen_ai.request.model"
GEN_AI_OPERATION: Final = "gen_ai.operation.name"
GEN_AI_TOOL_NAME: Final = "gen_ai.tool.name"
GEN_AI_TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
GEN_AI_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"

# Ours
TENANT: Final = "parley.tenant"
PROFILE: Final = "parley.profile"
WORKER: Final = "parley.worker"
GATEWAY: Final = "parley.gateway"
EPOCH: Final = "parley.epoch"
LINK: Final = "parley.link"
LINK_CAUSE: Final = "parley.link.cause"
"""Why there was none: as in `link_state.rotating.cause`."""
LINK_METHOD: Final = "parley.link.method"
LINK_STATE_RESTORED: Final = "parley.link.state_restored"
LINK_TRIES: Final = "parley.link.tries"
LINK_GAP_MS: Final = "parley.link.gap_ms"
"""Milliseconds in which the model did not hear the caller."""
TURN_NUMBER: Final = "parley.turn.number"
TURN_INTERRUPTED: Final = "parley.turn.interrupted"
FIRST_AUDIO_MS: Final = "parley.turn.first_audio_ms"
"""Milliseconds from what the model answers (text, turn, tool result, or the transcript of speech) to its first audio.

When speech ended only the model knows: its own wait for silence is not in here; callers measure that."""
AUDIO_SECONDS: Final = "parley.turn.audio_seconds"
PLACE_ATTEMPTS: Final = "parley.place.attempts"
TOOL_OUTCOME: Final = "parley.tool.outcome"
ERROR_REASON: Final = "parley.error.reason"

# Labels of metrics alone; others are attributes of spans, too
RPC_STATUS: Final = "rpc.grpc.status_code"
CPU_MODE: Final = "cpu.mode"
GEN_AI_TOKEN_TYPE: Final = "gen_ai.token.type"
OUTCOME: Final = "parley.outcome"
REASON: Final = "parley.reason"
STATE: Final = "parley.state"
DIRECTION: Final = "parley.direction"
MEDIA_CLASS: Final = "parley.media_class"
MODALITY: Final = "parley.modality"
QUEUE: Final = "parley.queue"
HOP: Final = "parley.hop"

# Span events
EVENT_FIRST_AUDIO: Final = "first audio"
EVENT_INPUT_TRANSCRIBED: Final = "input transcribed"
EVENT_INTERRUPTED: Final = "interrupted"
EVENT_GENERATION_COMPLETE: Final = "generation complete"
EVENT_TOOL_CALL: Final = "tool call"
