"""Builds the command for one run and turns whatever happens into an exit status."""

import importlib
import os
import sys
from importlib.metadata import EntryPoint
from typing import Any

import typer

from parley.cli import _failures, _plugins

_OWN = {
    "version": "version:version",
    "settings": "settings:settings",
    "talk": "talk:talk_command",
    "session": "sessions:session_app",
    "top": "top:top",
    "conformance": "conformance:conformance",
    "up": "up:up",
    "demo": "demo:demo",
}
"""Our own commands: module and attribute below `parley.cli`."""
_HELP = {
    "doctor": "Look at a deployment and say what to mend.",
    "fabric": "Create or check the streams and buckets in JetStream.",
}
"""Of what is found by entry point and is no service."""
_QUESTIONS = {"worker": "sessions:worker_app", "tools": "tools:tools_app"}
"""Sub-commands beside a service's own command: questions over gRPC, which need none of the service's libraries."""


def run(arguments: list[str]) -> int:
    """Runs `parley ARGUMENTS...`; never lets a stack trace out (PARLEY_TRACEBACK=1 asks for it)."""
    try:
        command = typer.main.get_command(build(arguments))
        command.main(args=arguments, prog_name="parley")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        return _failures.EX_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; writing the last buffered bytes must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _failures.EX_PIPE
    except Exception as error:
        if os.environ.get("PARLEY_TRACEBACK"):
            raise
        return _failures.report(_advised(error, arguments))
    return 0


def _advised(error: Exception, arguments: list[str]) -> BaseException:
    """For a service that finds a library missing only once it runs: what to install; else the error itself."""
    cause = _failures.single(error)
    name = next(iter(_words(arguments)), "")
    if _plugins.is_foreign(cause) and any(point.name == name for point in _plugins.service_points("parley.commands")):
        return _plugins.unavailable(name, cause)
    return error


def build(arguments: list[str]) -> typer.Typer:
    """The application with the command that is asked for; with all of them when none is, or none of ours.

    Loading everything would make every `parley talk` pay for four services' imports.
    """
    app = typer.Typer(
        name="parley",
        help="Gemini Live conversations as a service.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.callback()(_parley)
    words = _words(arguments)
    services = {point.name: point for point in _plugins.service_points("parley.commands")}
    if len(words) > 1 and words[0] in _QUESTIONS and _is_question(*words[:2]):
        _add_own(app, words[0], _QUESTIONS[words[0]])
    elif words and words[0] in _OWN:
        _add_own(app, words[0], _OWN[words[0]])
    elif words and words[0] in services:
        _add_service(app, words[0], _plugins.load(services[words[0]]))
    else:
        for name, place in _OWN.items():
            _add_own(app, name, place)
        for point in services.values():
            _add_placeholder(app, point)
    return app


def _is_question(service: str, word: str) -> bool:
    """Other sub-commands are the service's own, and need what it needs."""
    return word in {command.name for command in _own(_QUESTIONS[service]).registered_commands}


def _words(arguments: list[str]) -> list[str]:
    return [argument for argument in arguments if not argument.startswith("-")]


def _parley() -> None:
    """Gemini Live conversations as a service."""


def _own(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(f"parley.cli.{module}"), attribute)


def _add_own(app: typer.Typer, name: str, place: str) -> None:
    value = _own(place)
    if isinstance(value, typer.Typer):
        app.add_typer(value, name=name)
    else:
        app.command(name)(value)


def _add_placeholder(app: typer.Typer, point: EntryPoint) -> None:
    """A line in the list of commands; never run, because a service that is asked for is loaded above."""

    def command() -> None:
        _plugins.load(point)

    missing = _plugins.missing_for(point.name)
    said = _HELP.get(point.name, f"Run the {point.name}.")
    hint = f"(not installed: pip install 'parley\\[{point.name}]')" if missing else said
    app.command(point.name, help=hint)(command)


def _add_service(app: typer.Typer, name: str, value: Any) -> None:
    """A service brings a function, or a Typer with one command or a callback."""
    if isinstance(value, typer.Typer) and value.registered_callback is None and len(value.registered_commands) == 1:
        value = value.registered_commands[0].callback
    if not isinstance(value, typer.Typer):
        if name not in _QUESTIONS:
            app.command(name)(value)
            return
        group = typer.Typer(help=value.__doc__, rich_markup_mode="rich")
        group.callback(invoke_without_command=True)(value)
        value = group
    if name in _QUESTIONS:
        # So that `--help` shows them; they run by way of `build`.
        there = {command.name for command in value.registered_commands}
        value.registered_commands += [c for c in _own(_QUESTIONS[name]).registered_commands if c.name not in there]
    app.add_typer(value, name=name)
