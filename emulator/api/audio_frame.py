"""The one client message that comes fifty times a second, recognised as a whole.

Anything but a piece of audio in the shape that SDKs send it in is left to :mod:`emulator.api.protojson`, which would
read these the same way in eight times the time.
"""

import re
from binascii import a2b_base64

# Data before type, as every SDK writes it; either spelling of names, spaces where JSON allows them.
_BEFORE = re.compile(r' *\{ *"realtime(?:_i|I)nput" *: *\{ *"audio" *: *\{ *"data" *: *"')
_AFTER = re.compile(r'" *, *"mime(?:_t|T)ype" *: *"([ !#-\[\]-~]{0,64})" *\} *\} *\} *')
_TO_STANDARD = str.maketrans("-_", "+/")


def read(frame: str | bytes) -> tuple[bytes, str] | None:
    """PCM and mime type of a frame that is a piece of audio; None where the careful reader has to look at it."""
    if not isinstance(frame, str) or (before := _BEFORE.match(frame)) is None:
        return None
    end = frame.find('"', before.end())
    if end < 0 or (after := _AFTER.fullmatch(frame, end)) is None:
        return None
    data = frame[before.end() : end]
    if "-" in data or "_" in data:
        data = data.translate(_TO_STANDARD)
    try:
        # Strictly: whatever is not base64, an escape in the string among it, is an error here.
        return a2b_base64(data, strict_mode=True), after[1]
    except ValueError:
        return None
