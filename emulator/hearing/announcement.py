"""How the beginning and the end of speech are announced to the client."""

from typing import Any, Literal

from emulator.api import protocol
from emulator.configuration.setup import Config

Kind = Literal["ACTIVITY_START", "ACTIVITY_END"]


def activity(config: Config, kind: Kind, at: float, *, interrupting: bool = False) -> list[dict[str, Any]]:
    """The messages that tell of it; ``at``: seconds of audio on this connection, ``interrupting``: an answer."""
    switches = config.switches
    when: str = switches.voice_activity
    if when == "model":
        announced = "barge_in" if config.rules.announces_barge_in else "never"
        when = "always" if config.explicit_vad or config.rules.announces_activity else announced
    messages: list[dict[str, Any]] = []
    if when == "always" or (when == "barge_in" and interrupting):
        frames = switches.explicit_vad if config.explicit_vad else "activity"
        if frames != "signal":
            messages.append({"voiceActivity": {"type": kind, "audioOffset": protocol.seconds(at)}})
        if frames != "activity":
            signal = "VAD_SIGNAL_TYPE_SOS" if kind == "ACTIVITY_START" else "VAD_SIGNAL_TYPE_EOS"
            messages.append({"voiceActivityDetectionSignal": {"vadSignalType": signal}})
    if switches.speech_state:
        state = "SPEECH" if kind == "ACTIVITY_START" else "NON_SPEECH"
        messages.append({"serverContent": {"speechState": state}})
    return messages
