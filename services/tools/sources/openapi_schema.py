"""Schemas of an OpenAPI document as JSON Schema. Plain code: no I/O."""

from __future__ import annotations

from typing import Any, Final

from services.tools.schema import SchemaError
from services.tools.sources.openapi_document import Document

_SCHEMAS: Final = "#/components/schemas/"
_DROPPED: Final = frozenset({"xml", "externalDocs", "discriminator", "example", "deprecated", "readOnly", "writeOnly"})
_SINGLE: Final = frozenset({"items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"})
_LISTS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_MAPS: Final = frozenset({"properties", "patternProperties", "dependentSchemas"})
_MAX_PARTS: Final = 20_000


class Schemas:
    """Translates the schemas of one operation, and collects the definitions that they refer to."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._names: dict[str, str] = {}
        self._parts = 0
        self.definitions: dict[str, Any] = {}
        """For `$defs`."""

    def translate(self, schema: Any, where: str) -> Any:
        """The schema of a request. ReferenceRefusedError, SchemaError."""
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise SchemaError(f"its schema has more than {_MAX_PARTS} parts")
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise SchemaError(f"{where}: expected a schema, found {type(schema).__name__}")
        translated: dict[str, Any] = {}
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                translated["$ref"] = f"#/$defs/{self._defined(value, where)}"
            elif not isinstance(key, str) or key in _DROPPED or key.startswith("x-"):
                continue
            elif key in _SINGLE and isinstance(value, dict):
                translated[key] = self.translate(value, where)
            elif key in _LISTS and isinstance(value, list):
                translated[key] = [self.translate(item, where) for item in value]
            elif key in _MAPS and isinstance(value, dict):
                translated[key] = {str(name): self.translate(item, where) for name, item in value.items()}
            else:
                translated[key] = value
        self._without_read_only(schema, translated)
        return _of_3_0(translated) if self._document.is_3_0 else translated

    def resolved(self, schema: Any, where: str) -> Any:
        """The schema itself, where it is a reference to one. ReferenceRefusedError."""
        return self._document.resolved(schema, where)

    def _defined(self, reference: str, where: str) -> str:
        if reference not in self._names:
            target = self._document.at(reference, where)
            name = reference.removeprefix(_SCHEMAS).replace("/", ".").replace("~", ".").replace("#", "")
            while name in self.definitions:
                name += "_"
            self._names[reference] = name
            self.definitions[name] = {}  # before the translation: it may refer to itself
            self.definitions[name] = self.translate(target, reference)
        return self._names[reference]

    def _without_read_only(self, schema: dict[str, Any], translated: dict[str, Any]) -> None:
        properties = schema.get("properties")
        if not isinstance(properties, dict):
            return
        hidden = {
            name for name, inner in properties.items() if isinstance(inner, dict) and inner.get("readOnly") is True
        }
        for name in hidden:
            translated["properties"].pop(str(name), None)
        if isinstance(required := translated.get("required"), list) and hidden:
            translated["required"] = [name for name in required if name not in hidden]


def _of_3_0(schema: dict[str, Any]) -> dict[str, Any]:
    """What version 3.0 says in its own way."""
    if schema.pop("nullable", None) is True:
        if isinstance(kind := schema.get("type"), str):
            schema["type"] = [kind, "null"]
            if isinstance(choices := schema.get("enum"), list) and None not in choices:
                schema["enum"] = [*choices, None]
        elif "$ref" in schema or _LISTS & schema.keys():
            schema = {"anyOf": [schema, {"type": "null"}]}
    for limit, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(exclusive), bool) and schema.pop(exclusive) and limit in schema:
            schema[exclusive] = schema.pop(limit)
    return schema
