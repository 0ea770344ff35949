"""Media is told from everything else that a NATS server sends, wherever the bytes are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.errors import ProtocolError

from services.fabric.media_split import MAX_LINE, MediaSplitter

PREFIX = "parley.worker.wk.up."
subjects = st.sampled_from([f"{PREFIX}ses_1", f"{PREFIX}ses_2", "parley.worker.wk.ctl", "_INBOX.x.y", "parley.worker"])
payloads = st.binary(max_size=40) | st.sampled_from(
    [b"", b"\r\n", b"MSG parley.worker.wk.up.x 1 3\r\nabc\r\n", b"PING\r\n"]
)
lines = st.sampled_from([b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b"-ERR 'x'\r\n", b'INFO {"a":"MSG x 1 2"}\r\n', b"\r\n"])
replies = st.sampled_from([b"", b"_INBOX.a "])


def message(subject: str, payload: bytes, reply: bytes = b"", headers: bytes = b"") -> bytes:
    sizes = b"%d %d" % (len(headers), len(headers) + len(payload)) if headers else b"%d" % len(payload)
    verb = b"HMSG" if headers else b"MSG"
    return b"%b %b 7 %b%b\r\n%b%b\r\n" % (verb, subject.encode(), reply, sizes, headers, payload)


messages = st.tuples(subjects, payloads, replies, st.sampled_from([b"", b"NATS/1.0\r\na: b\r\n\r\n"]))


def fed(splitter: MediaSplitter, data: bytes, cuts: list[int]) -> list[bytes]:
    """Feed in pieces of these lengths, again and again."""
    passed, at, number = [], 0, 0
    while at < len(data):
        size = cuts[number % len(cuts)]
        passed.append(splitter.feed(data[at : at + size]))
        at, number = at + size, number + 1
    return passed


@given(st.lists(messages | lines, max_size=12), st.lists(st.integers(1, 60), min_size=1, max_size=6))
def test_media_comes_whole_and_in_order_and_the_rest_goes_on_byte_for_byte(
    sent: list[tuple[str, bytes, bytes, bytes] | bytes], cuts: list[int]
) -> None:
    taken: list[tuple[str, bytes]] = []
    splitter = MediaSplitter()
    splitter.route(PREFIX, lambda subject, payload: taken.append((subject, payload)))
    data, media, rest = b"", [], b""
    for item in sent:
        wire = item if isinstance(item, bytes) else message(*item)
        data += wire
        if not isinstance(item, bytes) and item[0].startswith(PREFIX) and not item[3]:
            media.append(item[:2])
        else:
            rest += wire
    assert b"".join(fed(splitter, data, cuts)) == rest
    assert taken == media


@given(st.lists(messages | lines, max_size=8), st.lists(st.integers(1, 60), min_size=1, max_size=6))
def test_without_a_route_everything_goes_on(
    sent: list[tuple[str, bytes, bytes, bytes] | bytes], cuts: list[int]
) -> None:
    data = b"".join(item if isinstance(item, bytes) else message(*item) for item in sent)
    assert b"".join(fed(MediaSplitter(), data, cuts)) == data


def test_a_foreign_payload_is_not_held_until_it_is_complete() -> None:
    splitter = MediaSplitter()
    assert splitter.feed(b"MSG _INBOX.x 1 10\r\n01234") == b"MSG _INBOX.x 1 10\r\n01234"
    assert splitter.feed(b"56789\r\nPI") == b"56789\r\n"
    assert splitter.feed(b"NG\r\n") == b"PING\r\n"


def test_another_connection_begins_with_nothing_of_the_one_before() -> None:
    taken: list[tuple[str, bytes]] = []
    splitter = MediaSplitter()
    splitter.route(PREFIX, lambda subject, payload: taken.append((subject, payload)))
    for half in (message(f"{PREFIX}a", b"lost")[:-5], message("_INBOX.x", b"lost")[:-5]):
        splitter.feed(half)
        splitter.reset()
        assert splitter.feed(b"INFO {}\r\n" + message(f"{PREFIX}a", b"new")) == b"INFO {}\r\n"
    assert taken == [(f"{PREFIX}a", b"new")] * 2


@pytest.mark.parametrize(
    "data",
    [b"MSG x 1 many\r\n", b"MSG x 1 -9\r\n", b"MSG \r\n", b"x" * (MAX_LINE + 1), b"\r\n" + b"y" * (MAX_LINE + 1)],
)
def test_what_is_no_nats_server_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        MediaSplitter().feed(data)
