"""gRPC as it comes, also in a process whose gRPC is instrumented.

OpenTelemetry's stock instrumentation replaces `grpc.aio.server` and the functions that make channels, and has one span
for each call. For a conversation that lasts an hour that span would last an hour, be exported at its end, and be the
parent of all the rest. Ours are short, and made where something happens; so the functions are taken from where gRPC
defines them.
"""

from collections.abc import Callable
from typing import Any, cast

import grpc.aio
from grpc.aio import _channel, _server

insecure_channel: Callable[..., "grpc.aio.Channel"] = cast(Any, _channel).insecure_channel
secure_channel: Callable[..., "grpc.aio.Channel"] = cast(Any, _channel).secure_channel
server: Callable[..., "grpc.aio.Server"] = cast(Any, _server).server
