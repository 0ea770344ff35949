"""Ordered turns (``client_content``): which of them close the connection."""

from emulator import texts
from emulator.api.protocol import Content
from emulator.configuration.setup import Config
from emulator.errors import invalid
from emulator.hearing.listening import check
from emulator.hearing.pictures import describe

# What the model's own speech has; nobody knows why it is refused.
_REFUSED_RATE = 24000


def check_turns(turns: tuple[Content, ...], config: Config, *, seeding: bool, complete: bool) -> None:
    """Raises :class:`emulator.errors.Refusal` for turns that cannot be taken.

    ``seeding``: they are history told before the conversation; ``complete``: they are all of it.
    """
    for turn in turns:
        _check(turn, config, seeding=seeding)
    if seeding and complete and turns and turns[-1].role == "model" and config.rules.seeds_end_with_user:
        raise invalid()


def _check(turn: Content, config: Config, *, seeding: bool) -> None:
    if turn.role is None and config.rules.role_required:
        raise invalid()
    if turn.role not in (None, "", "user", "model") and not (turn.role == "system" and config.vertex):
        raise texts.ROLE_REFUSED.refusal()
    for data, mime_type in turn.images:
        describe(data, mime_type)
    if seeding and turn.audio and not config.rules.audio_in_seeds:
        raise texts.PRECONDITION.refusal()
    if any(check(mime_type) == _REFUSED_RATE for _, mime_type in turn.audio):
        raise texts.NOT_ENABLED.refusal()
