"""Profiles: session settings kept by the operator, one YAML file each."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from parley.v1 import live_pb2
from services.fabric import yaml_file
from services.fabric.capabilities import Backend
from services.fabric.errors import ServiceError
from services.fabric.yaml_file import ConfigurationError, Value
from services.gateway.session_config import PROFILE_NAME, check_config

_ROOT = "profile"


class ProfileError(ConfigurationError):
    """Profiles that cannot be used: one line for each file, `FILE:LINE: reason`."""


def load_profiles(folder: Path, backend: Backend = "developer") -> dict[str, live_pb2.SessionConfig]:
    """Every profile of a folder by name. ProfileError names what is wrong, and where."""
    if not folder.is_dir():
        raise ProfileError(f"{folder}: is no folder of profiles")
    profiles: dict[str, live_pb2.SessionConfig] = {}
    problems: list[str] = []
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".yaml", ".yml") or path.name.startswith("."):
            continue
        try:
            if not PROFILE_NAME.fullmatch(path.stem):
                raise ConfigurationError(f"{path}:1: the file name must match {PROFILE_NAME.pattern}")
            if path.stem in profiles:
                raise ConfigurationError(f"{path}:1: profile `{path.stem}` stands in two files")
            profiles[path.stem] = load_profile(path, backend)
        except ConfigurationError as error:
            problems.append(str(error))
    if problems:
        raise ProfileError("\n".join(problems))
    return profiles


def load_profile(path: Path, backend: Backend = "developer") -> live_pb2.SessionConfig:
    """One profile. ConfigurationError names file, line and reason."""
    root = yaml_file.load(path)
    if not root.is_mapping:
        raise root.problem("expected the fields of a session's settings")
    _check_fields(root, cast(Descriptor, live_pb2.SessionConfig.DESCRIPTOR))
    config = live_pb2.SessionConfig()
    try:
        json_format.ParseDict(root.plain, config)
    except json_format.ParseError as error:
        raise root.problem(str(error)) from None
    try:
        check_config(config, _ROOT, backend)
    except ServiceError as error:
        field = next(iter(error.violations), error.message.split(" ", 1)[0])
        raise _at(root, field).problem(error.message.removeprefix(f"{_ROOT}.")) from None
    return config


def _check_fields(value: Value, descriptor: Descriptor) -> None:
    """Fields exist and have the right kind of value; json_format would say so too, but not where."""
    for key, child in value.items.items():
        field = descriptor.fields_by_name.get(key)
        if field is None:
            raise value.problem(f"no field `{key}`{_did_you_mean(key, descriptor)}", key)
        if not field.is_repeated:
            _check_one(child, field)
            continue
        if not child.is_sequence:
            raise child.problem(f"`{key}` must be a list")
        for element in child.elements:
            _check_one(element, field)


def _check_one(value: Value, field: FieldDescriptor) -> None:
    nested = field.message_type
    if nested is not None and nested.file.package != "google.protobuf":
        if not value.is_mapping:
            raise value.problem(f"`{field.name}` must have fields of its own")
        _check_fields(value, nested)
        return
    enum = field.enum_type
    if enum is not None and value.plain not in enum.values_by_name:
        raise value.problem(f"`{field.name}` must be one of {', '.join(enum.values_by_name)}")
    plain = [value.plain] if field.is_repeated else value.plain
    try:
        if value.plain is None:
            raise json_format.ParseError("has no value")
        json_format.ParseDict({field.name: plain}, GetMessageClass(cast(Descriptor, field.containing_type))())
    except json_format.ParseError as error:
        raise value.problem(f"`{field.name}`: {_reason(error)}") from None


def _reason(error: json_format.ParseError) -> str:
    return " ".join(str(error).rsplit(": ", 1)[-1].split())[:200]


def _did_you_mean(key: str, descriptor: Descriptor) -> str:
    close = difflib.get_close_matches(key, list(descriptor.fields_by_name), 1)
    return f"; did you mean `{close[0]}`?" if close else ""


def _at(root: Value, field: str) -> Value:
    """The value at a path such as `profile.tools[2]`, or the nearest one above it that is written down."""
    value = root
    for step in field.removeprefix(_ROOT).replace("[", ".").replace("]", "").strip(".").split("."):
        if step in value.items:
            value = value.items[step]
        elif step.isdigit() and int(step) < len(value.elements):
            value = value.elements[int(step)]
        else:
            break
    return value
