"""A caller on bare stubs: `python -m tests.support.old_caller TARGET PROFILE`. Prints what it got as JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

import grpc
from google.protobuf.unknown_fields import UnknownFieldSet

from parley.v1 import live_pb2, live_pb2_grpc


def requests(profile: str) -> Iterator[live_pb2.ConverseRequest]:
    yield live_pb2.ConverseRequest(open=live_pb2.Open(request_id=f"old-{os.getpid()}", profile=profile))
    yield live_pb2.ConverseRequest(seq=1, text=live_pb2.TextInput(text="hello"))
    yield live_pb2.ConverseRequest(seq=2, end=live_pb2.End(reason="done"))


def main() -> None:
    target, profile = sys.argv[1:]
    with grpc.insecure_channel(target) as channel:
        call = live_pb2_grpc.LiveServiceStub(channel).Converse(requests(profile), timeout=20)
        kinds, unknown = [], 0
        for response in call:
            kinds.append(response.WhichOneof("payload"))
            unknown += len(UnknownFieldSet(response))
        fields = [field.name for field in live_pb2.SessionConfig.DESCRIPTOR.fields]
        print(json.dumps({"status": call.code().name, "kinds": kinds, "unknown": unknown, "fields": fields}))


if __name__ == "__main__":
    main()
