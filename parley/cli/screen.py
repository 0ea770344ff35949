"""The conversation as people see it on a terminal."""

from rich.text import Text

from parley import events
from parley.cli import _output
from parley.cli.conversation import Step
from parley.cli.report import TalkReport


class Screen:
    """Prints what is said as it is said: a line for each utterance, tool and incident."""

    def __init__(self) -> None:
        self._console = _output.console()
        self._pieces: dict[str, str] = {"heard": "", "model": ""}

    def on_step(self, step: Step) -> None:
        """The caller begins to say something."""
        self._flush("model")
        self._line("caller", f"writes: {step.text}" if step.text else f"speaks ({step.name})", "cyan")

    def on_event(self, event: events.Event) -> None:
        """The service said something."""
        match event:
            case events.InputTranscript():
                self._piece("heard", event.text, finished=event.finished)
            case events.OutputTranscript() | events.Text(thought=False):
                self._flush("heard")
                self._piece("model", event.text, finished=isinstance(event, events.OutputTranscript) and event.finished)
            case events.ToolActivity():
                self._flush("heard")
                self._tool(event)
            case events.Interrupted():
                self._flush("model")
                self._line("interrupted", event.reason.lower(), "red")
            case events.TurnComplete():
                self._flush("model")
            case events.Gap():
                self._line("gap", f"{event.direction} {event.from_seq}-{event.to_seq}: {event.reason}", "red")
            case events.LinkRotating() | events.LinkRecovered() | events.GatewayDraining():
                self._line("link", repr(event), "yellow")
            case events.StreamLost():
                left = event.time_left.total_seconds()
                self._line("stream", f"lost: {event.error}; trying to resume for {left:.0f} s", "yellow")
            case events.StreamResumed():
                self._line("stream", f"resumed after {event.gap.total_seconds():.1f} s", "yellow")
                for lost in event.dropped:
                    what = f"{lost.messages} messages, {lost.audio.total_seconds():.1f} s of audio"
                    self._line("stream", f"not delivered: {lost.media_class.lower()}, {what} ({lost.reason})", "red")
            case events.Ended():
                self._flush("heard")
                self._flush("model")
                self._line("ended", f"{event.reason.lower()} {event.message}".strip(), "dim")
            case _:
                return

    def _tool(self, event: events.ToolActivity) -> None:
        if event.phase == "STARTED":
            self._line("tool", f"{event.name}({_output.flat(event.arguments)})", "magenta")
        elif event.phase == "FINISHED":
            took = "" if event.duration is None else f" in {event.duration.total_seconds() * 1000:.0f} ms"
            self._line("tool", f"{event.name} {event.outcome.lower()}{took} {event.message}".rstrip(), "magenta")
        else:
            far = "" if event.fraction is None else f" {event.fraction:.0%}"
            found = "" if event.output is None else f" {_output.flat(event.output)}"
            self._line("tool", f"{event.name}:{far} {event.message}{found}".rstrip(), "magenta")

    def _piece(self, who: str, text: str, *, finished: bool) -> None:
        self._pieces[who] += text
        if finished:
            self._flush(who)

    def _flush(self, who: str) -> None:
        said, self._pieces[who] = self._pieces[who].strip(), ""
        if said:
            self._line(who, said, "green" if who == "model" else "blue")

    def _line(self, who: str, what: str, style: str) -> None:
        # Text, not markup: a transcript may hold anything, square brackets too.
        self._console.print(Text.assemble((f"{who:>12}  ", f"bold {style}"), what))


def show_summary(report: TalkReport) -> None:
    """Latencies and verdict, after the conversation."""
    rows: list[tuple[str, str]] = []
    if report.open_ms is not None:
        rows.append(("session open", f"{report.open_ms:.0f} ms"))
    for exchange in report.exchanges:
        waited = exchange.first_audio_ms
        if waited is not None:
            rows.append((f"first audio after {exchange.step.name}", f"{waited:.0f} ms"))
    rows.append(("sent", f"{report.sent.audio_bytes / 32_000:.1f} s of audio, {len(report.sent.video)} pictures"))
    rows.append(("received", f"{report.audio_seconds:.1f} s of audio, {report.played_seconds:.1f} s of it heard"))
    if report.sequence is not None:
        verdict = "whole" if report.sequence.whole else f"NOT WHOLE: holes {list(report.sequence.holes)}"
        rows.append(("sequence", f"{verdict} (last {report.sequence.last_seq}, {len(report.sequence.gaps)} gaps)"))
    rows.append(("session", report.session_id or "(none)"))
    rows.append(("trace", report.trace_id))
    _output.print_table("", ("", report.outcome), rows)
