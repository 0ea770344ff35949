"""`parley session timeline`: what happened to a conversation, and why."""

import asyncio
import re
from typing import Annotated, Any

import grpc
import typer

from parley.cli import _output
from parley.cli._connection import DEFAULT_TARGET, ApiKey, Target, call
from parley.cli._failures import CliError
from parley.cli.timeline_text import Columns, causes, heading, name_of, rows
from parley.v1 import sessions_pb2, timeline_pb2
from parley.v1.sessions_pb2_grpc import SessionServiceStub

_LOOK_EVERY = 1.0
"""Seconds between two looks at a session that is followed."""
_TRACE = re.compile(r"^(?:[0-9a-f]{2}-)?([0-9a-f]{32})(?:-[0-9a-f]{16}-[0-9a-f]{2})?$", re.IGNORECASE)
Answer = sessions_pb2.GetSessionTimelineResponse


def session_timeline(
    of: Annotated[
        str, typer.Argument(metavar="ID", help="Id of a session (`ses_...`), or of a trace, or a traceparent.")
    ],
    target: Target = DEFAULT_TARGET,
    api_key: ApiKey = "",
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the session has ended.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document; with --follow one for each event, one a line.")
    ] = False,
) -> None:
    """Print what happened to a session, live or ended, in order, with durations and causes.

    Times are offsets from the first event; a line stands where what it tells began. What the conversation was about is
    not in it. A trace that belongs to several sessions prints each.

    [dim]Examples:[/dim] parley session timeline ses_... --follow; parley session timeline 4bf92f35...0e4736
    """

    async def ask(channel: grpc.aio.Channel, options: dict[str, Any]) -> None:
        stub = SessionServiceStub(channel)
        found = await stub.GetSessionTimeline(request_for(of), **options)
        if len(found.session_ids) == 1:
            answers = [found]
        else:
            requests = [sessions_pb2.GetSessionTimelineRequest(session_id=each) for each in found.session_ids]
            answers = [await stub.GetSessionTimeline(request, **options) for request in requests]
        if follow and len(answers) > 1:
            ids = ", ".join(found.session_ids)
            raise CliError(f"the trace belongs to several sessions; follow one of {ids}", 2)
        if not follow:
            _print(answers, as_json=as_json)
            return
        columns = _print_first(answers[0], as_json=as_json)
        await _follow(channel, options, answers[0], columns, as_json=as_json)

    call(target, api_key, ask)


def request_for(text: str) -> sessions_pb2.GetSessionTimelineRequest:
    """What is asked for by an argument. CliError when it is neither a session nor a trace."""
    text = text.strip()
    if text.startswith("ses_"):
        return sessions_pb2.GetSessionTimelineRequest(session_id=text)
    if match := _TRACE.match(text):
        return sessions_pb2.GetSessionTimelineRequest(trace_id=match.group(1).lower())
    raise CliError(
        f"{text!r} is neither the id of a session (ses_...) nor of a trace (32 hexadecimal digits, or a traceparent)",
        2,
    )


def document(answer: Answer) -> dict[str, Any]:
    """A timeline as JSON: the answer, and the causes of what went wrong in a list of their own."""
    session_id = answer.session_ids[0]
    session = _output.document(answer.session) if answer.HasField("session") else None
    return {
        "session_id": session_id,
        "session": session,
        "causes": [
            {"cause": cause.name, "count": cause.count, "meaning": cause.meaning} for cause in causes(answer.events)
        ],
        "events": [event_document(event) for event in answer.events],
    }


def event_document(event: timeline_pb2.TimelineEvent) -> dict[str, Any]:
    """An event as JSON, without what is empty."""
    from google.protobuf.json_format import MessageToDict

    found: dict[str, Any] = MessageToDict(event, preserving_proto_field_name=True)
    found["type"] = name_of(event).upper().replace(" ", "_")
    return found


def _print(answers: list[Answer], *, as_json: bool) -> None:
    if as_json:
        documents = [document(answer) for answer in answers]
        _output.print_json(documents[0] if len(documents) == 1 else documents)
        return
    for answer in answers:
        print(heading(answer))
        columns = Columns(answer.events)
        _output.print_table("", columns.names, rows(answer.events, columns))


def _print_first(answer: Answer, *, as_json: bool) -> Columns:
    columns = Columns(answer.events)
    if not as_json:
        print(heading(answer))
    _print_events(answer, columns, as_json=as_json)
    return columns


def _print_events(answer: Answer, columns: Columns, *, as_json: bool) -> None:
    for event in answer.events:
        if as_json:
            _output.print_json(event_document(event))
        else:
            print(columns.line(event), flush=True)


async def _follow(
    channel: grpc.aio.Channel, options: dict[str, Any], answer: Answer, columns: Columns, *, as_json: bool
) -> None:
    """Until the session has ended, and a look since then has brought nothing new: its last events may be stored after
    its end."""
    session_id, was_over = answer.session_ids[0], False
    while not (was_over and not answer.events):
        was_over = _is_over(answer)
        await asyncio.sleep(_LOOK_EVERY)
        request = sessions_pb2.GetSessionTimelineRequest(session_id=session_id, after=answer.next_after)
        answer = await SessionServiceStub(channel).GetSessionTimeline(request, **options)
        _print_events(answer, columns, as_json=as_json)


def _is_over(answer: Answer) -> bool:
    return not answer.HasField("session") or answer.session.state == sessions_pb2.SESSION_STATE_ENDED
