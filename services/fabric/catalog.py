"""The catalog: what the tools service declares, read by gateways. A KV bucket, one key a tool."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import nats.errors
import nats.js.errors
from google.protobuf.message import DecodeError
from nats.js import JetStreamContext
from nats.js.kv import KeyValue

from parley._version import __version__
from parley.v1 import fabric_pb2, tools_pb2
from services.fabric import subjects
from services.fabric.records import unavailable
from services.fabric.streams import ensure_stream
from services.fabric.topology import catalog_bucket

_PREFIX: Final = "tool."


def exists_for(tool: tools_pb2.Tool, tenant: str) -> bool:
    """Whether the tool is there for a tenant; for others it is unknown, and the tools service refuses their calls."""
    return not tool.tenants or tenant in tool.tenants


class Catalog:
    """Tools by name."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self._bucket: KeyValue | None = None

    async def ensure(self, replicas: int) -> None:
        """Create the bucket when it is missing, else look at it. MismatchError, StreamUnavailableError."""
        await ensure_stream(self._js, catalog_bucket(replicas))

    async def publish(self, tools: list[tools_pb2.Tool]) -> None:
        """Declare these tools; the same names of an older release are replaced."""
        bucket = await self._open()
        try:
            for tool in tools:
                record = fabric_pb2.CatalogRecord(schema_version=1, tool=tool, version=__version__)
                await bucket.put(_PREFIX + tool.declaration.name, record.SerializeToString())
        except (nats.errors.Error, TimeoutError) as error:
            raise unavailable(error) from error

    async def withdraw(self, names: Iterable[str]) -> None:
        """These tools are no more. Sessions that have them already get errors from then on."""
        bucket = await self._open()
        try:
            for name in names:
                await bucket.delete(_PREFIX + name)
        except (nats.errors.Error, TimeoutError) as error:
            raise unavailable(error) from error

    async def get(self, name: str) -> tools_pb2.Tool | None:
        """One tool; None when there is none of this name."""
        bucket = await self._open()
        try:
            entry = await bucket.get(_PREFIX + name)
        except nats.js.errors.KeyNotFoundError:
            return None
        except (nats.errors.Error, TimeoutError) as error:
            raise unavailable(error) from error
        try:
            return fabric_pb2.CatalogRecord.FromString(entry.value or b"").tool
        except DecodeError as error:
            raise unavailable(error) from error

    async def all(self) -> list[tools_pb2.Tool]:
        """Every tool, by name."""
        # Not `KeyValue.keys()`: on a busy machine it has been seen to say that there are none.
        every = f"$KV.{subjects.CATALOG_BUCKET}.{_PREFIX}"
        try:
            info = await self._js.stream_info(f"KV_{subjects.CATALOG_BUCKET}", subjects_filter=f"{every}>")
        except (nats.errors.Error, TimeoutError) as error:
            raise unavailable(error) from error
        found = [await self.get(name.removeprefix(every)) for name in sorted(info.state.subjects or ())]
        return [tool for tool in found if tool is not None]

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            try:
                self._bucket = await self._js.key_value(subjects.CATALOG_BUCKET)
            except (nats.errors.Error, TimeoutError) as error:
                raise unavailable(error) from error
        return self._bucket
