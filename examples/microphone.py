# /// script
# requires-python = ">=3.11"
# dependencies = ["parley[audio]", "sounddevice>=0.5,<0.6"]
#
# [tool.uv.sources]
# parley = { path = "..", editable = true }
# ///
"""Speak with a model through this machine's microphone and loudspeaker; Ctrl-C ends the session.

    pip install 'parley[audio]' sounddevice      # on Linux also PortAudio: apt install libportaudio2
    python examples/microphone.py --target 127.0.0.1:PORT --profile support

Wear headphones: nothing here takes the loudspeaker's sound out of the microphone's, and a model that hears itself
interrupts itself.
"""

import argparse
import asyncio
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import parley
from parley import errors, events
from parley.audio import Resampler

SESSION_RATE = 16_000
"""Samples a second that the session takes; profiles have this rate."""
BLOCKS_A_SECOND = 50


class SoundCard(Protocol):
    """All that a conversation needs of a sound card: 16 bit mono PCM, both ways."""

    input_rate: int
    output_rate: int
    """Samples a second, of the card's own choice."""

    def open(
        self, heard: Callable[[bytes], None], wanted: Callable[[int], bytes], gone: Callable[[], None]
    ) -> AbstractContextManager[None]:
        """Runs the card until the context ends.

        The card calls, from threads of its own, `heard` with what the microphone heard, `wanted` for exactly so many
        bytes to play, and `gone` when it stops, for instance because somebody unplugged it.
        """


class SoundCardError(Exception):
    """There is none, or it does not work; the message is for the user."""


class PortAudio:
    """The devices that the system uses by default."""

    def __init__(self) -> None:
        """SoundCardError: what is missing, and how to get it."""
        try:
            import sounddevice
        except ImportError as error:
            raise SoundCardError("sounddevice is not installed: pip install sounddevice") from error
        except OSError as error:  # it is there, but what it stands on is not
            raise SoundCardError(f"{error}: install PortAudio, e.g. apt install libportaudio2") from error
        self._api: Any = sounddevice
        try:
            self.input_rate = int(sounddevice.query_devices(kind="input")["default_samplerate"])
            self.output_rate = int(sounddevice.query_devices(kind="output")["default_samplerate"])
        except (sounddevice.PortAudioError, ValueError) as error:
            raise SoundCardError(f"no microphone or no loudspeaker: {error}") from error

    @contextmanager
    def open(
        self, heard: Callable[[bytes], None], wanted: Callable[[int], bytes], gone: Callable[[], None]
    ) -> Iterator[None]:
        """As `SoundCard` says. SoundCardError: the devices are in use or refuse the format."""

        def record(indata: Any, frames: int, time: Any, status: Any) -> None:
            heard(bytes(indata))  # the buffer is PortAudio's, and used again after this call

        def play(outdata: Any, frames: int, time: Any, status: Any) -> None:
            outdata[:] = wanted(len(outdata))

        def options(rate: int) -> dict[str, Any]:
            block = rate // BLOCKS_A_SECOND
            shape = {"samplerate": rate, "blocksize": block, "channels": 1, "dtype": "int16", "latency": "low"}
            return {**shape, "finished_callback": gone}

        try:
            with (
                self._api.RawInputStream(callback=record, **options(self.input_rate)),
                self._api.RawOutputStream(callback=play, **options(self.output_rate)),
            ):
                yield
        except self._api.PortAudioError as error:
            raise SoundCardError(str(error)) from error


class Microphone:
    """What was heard and is not sent yet: from the card's thread into the event loop.

    While the service takes nothing more, `send_audio` waits, and speech waits here: at most a second, then the oldest
    is dropped, because what was said long ago helps nobody in a conversation.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[bytes] = deque(maxlen=BLOCKS_A_SECOND)
        self._ready = asyncio.Event()
        self.dropped = 0
        """Pieces."""

    def put(self, pcm: bytes) -> None:
        """Takes a piece; called from any thread."""
        self._loop.call_soon_threadsafe(self._append, pcm)

    async def get(self) -> bytes:
        """The next piece."""
        while not self._pieces:
            self._ready.clear()
            await self._ready.wait()
        return self._pieces.popleft()

    def _append(self, pcm: bytes) -> None:
        self.dropped += len(self._pieces) == BLOCKS_A_SECOND
        self._pieces.append(pcm)
        self._ready.set()


async def speak(session: parley.Session, microphone: Microphone, resampler: Resampler) -> None:
    """Sends what the microphone hears, at the session's rate."""
    while True:
        await session.send_audio(resampler.push(await microphone.get()))


async def listen(session: parley.Session, playout: parley.PlayoutQueue) -> None:
    """Plays what the model says, and shows it; ends with the stream."""
    speaker = ""
    async for event in session:
        playout.feed(event)
        match event:
            case events.InputTranscript(text=text):
                speaker = show(speaker, "you", text)
            case events.OutputTranscript(text=text):
                speaker = show(speaker, "model", text)
            case events.ToolActivity(phase="STARTED", name=name):
                speaker = show(speaker, "tool", name)
            case events.Interrupted():
                speaker = show(speaker, "interrupted", "")
            case events.Ended(reason=reason, message=message):
                speaker = show(speaker, "ended", f"{reason} {message}".strip())


def show(before: str, speaker: str, text: str) -> str:
    """Prints a piece of text, on a new line when somebody else speaks; returns who spoke."""
    print(text if speaker == before else f"\n{speaker}: {text}", end="", flush=True)
    return speaker


async def converse(options: argparse.Namespace, card: SoundCard) -> None:
    """Holds the conversation until the session ends, the card is gone, or Ctrl-C.

    Raises `parley.errors`; SoundCardError before a session is opened when the card does not work, or when it is gone.
    """
    microphone = Microphone()
    playout = parley.PlayoutQueue(rate=card.output_rate)
    resampler = Resampler(card.input_rate, SESSION_RATE)
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    connection = parley.connect(options.target, profile=options.profile, api_key=options.api_key)

    def on_gone() -> None:
        loop.call_soon_threadsafe(gone.set)

    with card.open(microphone.put, playout.read, on_gone):
        async with connection as session:
            print(f"{session.id}: speak; Ctrl-C ends", end="", flush=True)
            await first_of(listen(session, playout), speak(session, microphone, resampler), gone.wait())
            unplugged = gone.is_set()  # a card that is closed is gone, too
    stats = playout.stats
    print(
        f"\nplayed {stats.played:.1f} s, interrupted {stats.voided:.1f} s, dropped {microphone.dropped} pieces of yours"
    )
    if unplugged:
        raise SoundCardError("the sound card is gone")


async def first_of(*jobs: Coroutine[Any, Any, Any]) -> None:
    """Runs all until one of them ends or Ctrl-C is pressed, stops the others, and raises what failed."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        pass  # Ctrl-C. The session's block is left normally, which ends the session; by an error, it would be kept.
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        # That nothing can be sent any more is no news: why the session has ended is what the listener says.
        if isinstance(end, Exception) and not isinstance(end, errors.SessionEnded):
            raise end


def main(arguments: Sequence[str] | None = None, card: SoundCard | None = None) -> int:
    """The command; returns its exit status. `card`: another one than the system's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", required=True, metavar="HOST:PORT", help="gateway")
    parser.add_argument("--profile", default="support", help="profile of the session (default: %(default)s)")
    parser.add_argument("--api-key", help="credential, where the gateway asks for one")
    options = parser.parse_args(arguments)
    try:
        asyncio.run(converse(options, card or PortAudio()))
    except errors.ParleyError as error:
        print(f"microphone: {error}. {error.what_to_do}", file=sys.stderr)
        return 1
    except (SoundCardError, errors.MissingExtra) as error:
        print(f"microphone: {error}", file=sys.stderr)
        return 69
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
