"""Page tokens, and how many attachments a page costs."""

from __future__ import annotations

import pytest

from parley.v1 import sessions_pb2
from services.gateway import session_pages
from services.gateway.filter_syntax import parse
from services.gateway.session_pages import Session, fill_page, session_of_token, token_after

ATTACHED = sessions_pb2.SESSION_STATE_ATTACHED
DETACHED = sessions_pb2.SESSION_STATE_DETACHED
ENDED = sessions_pb2.SESSION_STATE_ENDED


def test_page_tokens_are_only_those_that_were_given_out_for_this_filter() -> None:
    session = "ses_" + "0" * 26
    assert session_of_token(token_after(session)) == session
    assert session_of_token(token_after(session, "profile = a"), "profile = a") == session
    good = token_after(session)
    tokens = ("", "x", "====", token_after("ses_1"), good + "A", "ä", token_after(session, "profile = a"))
    for token in tokens:
        with pytest.raises(Exception, match="page_token"):
            session_of_token(token)
    for token in (good, token_after(session, "profile = b"), token_after(session, "profile =  a")):
        with pytest.raises(Exception, match="page_token"):
            session_of_token(token, "profile = a")


class Records:
    """Sessions, newest first; every third has ended, of the others every second is attached."""

    def __init__(self, count: int) -> None:
        self.own = [
            Session(session_id=f"ses_{number:026}", state=ENDED if number % 3 == 0 else ATTACHED, epoch=number)
            for number in reversed(range(count))
        ]
        self.read: list[int] = []

    async def complete(self, session: Session) -> Session:
        if session.state == ENDED:
            return session
        self.read.append(session.epoch)
        return Session(session_id=session.session_id, state=ATTACHED if session.epoch % 2 else DETACHED)

    async def page(self, text: str, size: int, before: str = "~") -> tuple[list[int], str]:
        rest = (session for session in self.own if session.session_id < before)
        page, last = await fill_page(rest, parse(text), size, self.complete)
        return [int(session.session_id[4:]) for session in page], last

    async def pages(self, text: str, size: int) -> list[list[int]]:
        page, last = await self.page(text, size)
        found = [page]
        while last:
            page, last = await self.page(text, size, last)
            found.append(page)
        return found


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 100])
@pytest.mark.parametrize("size", [1, 7, 32, 100])
@pytest.mark.parametrize("text", ["", "state = ENDED", "state = ATTACHED", "state != DETACHED"])
async def test_pages_are_full_and_hold_every_match_once_in_order(text: str, size: int, count: int) -> None:
    records = Records(count)
    wanted = {
        "": lambda n: True,
        "state = ENDED": lambda n: n % 3 == 0,
        "state = ATTACHED": lambda n: n % 3 and n % 2,
        "state != DETACHED": lambda n: n % 3 == 0 or n % 2,
    }[text]
    pages = await records.pages(text, size)
    assert [n for page in pages for n in page] == [n for n in reversed(range(count)) if wanted(n)]
    assert all(len(page) == size for page in pages[:-1])
    assert pages[-1] or len(pages) == 1


async def test_only_what_can_still_match_costs_a_read() -> None:
    records = Records(90)
    assert (await records.page("state = ENDED", 100))[0] == list(range(87, -1, -3))
    assert records.read == []
    await records.page("state = ATTACHED", 100)
    assert sorted(records.read) == [n for n in range(90) if n % 3]


async def test_a_page_reads_little_more_than_it_shows() -> None:
    records = Records(1000)
    await records.page("", 10)
    assert len(records.read) <= 32


async def test_a_page_that_would_look_at_too_many_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_pages, "MAX_EXAMINED", 64)
    records = Records(300)
    text = "gateway = nowhere"  # of a session that lives it can be told only from the attachment
    page, last = await records.page(text, 10)
    assert (page, len(records.read)) == ([], 64)
    assert last == f"ses_{min(records.read):026}"
    assert [n for page in await records.pages(text, 10) for n in page] == []
    assert sorted(set(records.read)) == [n for n in range(300) if n % 3]
    short = await records.pages("state = ATTACHED", 50)
    assert [n for page in short for n in page] == [n for n in reversed(range(300)) if n % 3 and n % 2]
    exact = Records(96)
    assert (await exact.page(text, 10))[1] == ""
