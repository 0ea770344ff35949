"""Cuts a caller's PCM into frames of equal length and keeps what is left over for the next piece."""


class Framer:
    """16 bit mono PCM in, frames of `frame_ms` milliseconds out."""

    def __init__(self, *, rate: int, frame_ms: int) -> None:
        """ValueError: a rate outside of 8000 to 48000 Hz, or a frame length other than 20 or 40 ms."""
        if not 8000 <= rate <= 48_000:
            raise ValueError(f"input rate must be 8000 to 48000 Hz, not {rate}")
        if frame_ms not in {20, 40}:
            raise ValueError(f"frame_ms must be 20 or 40, not {frame_ms}")
        self.frame_bytes = rate * frame_ms // 1000 * 2
        self.rest = b""
        """What is left over, shorter than a frame. Whoever sends says what it is now: only they know what has left."""

    def cut(self, pcm: bytes) -> tuple[list[bytes], bytes]:
        """The whole frames of `rest` and `pcm`, and what is left over then; changes nothing.

        ValueError: an odd number of bytes, which cannot be samples.
        """
        if len(pcm) % 2:
            raise ValueError(f"audio must be whole 16 bit samples; got {len(pcm)} bytes")
        data = self.rest + bytes(pcm)
        whole = len(data) - len(data) % self.frame_bytes
        return [data[at : at + self.frame_bytes] for at in range(0, whole, self.frame_bytes)], data[whole:]
