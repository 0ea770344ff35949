"""OpenAPI documents: read, and their parts found, within bounds. Plain code: no I/O."""

from __future__ import annotations

import json
from typing import Any, Final

import yaml
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from services.tools.sources.source import SourceError

MAX_BYTES: Final = 4 * 1024 * 1024
_MAX_HOPS: Final = 16
_MAX_DEPTH: Final = 200
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ReferenceRefusedError(Exception):
    """A reference that leads nowhere, or out of the document."""


class Document:
    """One document, and what its references point at."""

    def __init__(self, text: str) -> None:
        """SourceError when it is no OpenAPI 3 document."""
        self.root = _parse(text)
        version = self.root.get("openapi")
        if not isinstance(version, str) or not version.startswith(("3.0", "3.1")):
            what = f"openapi: {version!r}" if version is not None else "no field `openapi`"
            if "swagger" in self.root:
                what = f"swagger: {self.root['swagger']!r}"
            raise SourceError(f"expected an OpenAPI document of version 3.0 or 3.1, found {what}")
        if not isinstance(self.root.get("paths"), dict):
            raise SourceError("the document has no `paths`")
        self.is_3_0 = version.startswith("3.0")
        self._resolver = Registry().with_resource("", DRAFT202012.create_resource(self.root)).resolver()

    def resolved(self, node: Any, where: str) -> Any:
        """The node, or what it refers to. ReferenceRefusedError."""
        for _ in range(_MAX_HOPS):
            if not isinstance(node, dict) or not isinstance(node.get("$ref"), str):
                return node
            node = self.at(node["$ref"], where)
        raise ReferenceRefusedError(f"{where}: its references go round in a circle")

    def at(self, reference: str, where: str) -> Any:
        """What a reference points at. ReferenceRefusedError."""
        if not reference.startswith("#"):
            raise ReferenceRefusedError(
                f"{where}: $ref {reference[:200]!r} leads out of the document, which is not followed;"
                " bundle the document into one file"
            )
        try:
            return self._resolver.lookup(reference).contents
        except (Unresolvable, ValueError, TypeError):
            raise ReferenceRefusedError(f"{where}: $ref {reference[:200]!r} leads nowhere") from None


def _yaml(text: str) -> Any:
    # libyaml's loader needs stack for each level, and takes the process with it when there is none left.
    depth = 0
    for event in yaml.parse(text, _Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise RecursionError
    return yaml.load(text, _Loader)


def _parse(text: str) -> dict[str, Any]:
    if len(text.encode()) > MAX_BYTES:
        raise SourceError(f"the document has more than {MAX_BYTES} bytes")
    try:
        root = json.loads(text) if text.lstrip().startswith("{") else _yaml(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise SourceError(f"the document is not YAML: {line}{error.problem or error.context}") from None
    except (ValueError, yaml.YAMLError) as error:
        raise SourceError(f"the document is neither JSON nor YAML: {str(error)[:200]}") from None
    except RecursionError:
        raise SourceError("the document is nested too deeply") from None
    if not isinstance(root, dict):
        raise SourceError("the document is not an object; is this an OpenAPI document?")
    return root
