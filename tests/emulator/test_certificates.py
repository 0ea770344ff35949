"""Whom the emulator's certificate is for, and that it can be given one."""

import ssl
from pathlib import Path

import aiohttp
import pytest
import trustme

from emulator.certificates import server_context, server_file
from tests.support.emulator import start_emulator


def shakes_hands(server: ssl.SSLContext, ca_file: Path, name: str) -> bool:
    """Whether a client that trusts this authority takes the server for `name`."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=ca_file)
    client = context.wrap_bio(to_client, to_server, server_hostname=name)
    served = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, served):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
    return True


def given(folder: Path) -> tuple[Path, Path]:
    """A certificate for `emulator`, with its key, and its authority."""
    authority = trustme.CA()
    pem, ca_file = folder / "given.pem", folder / "authority.pem"
    pem.write_bytes(authority.issue_cert("emulator", "127.0.0.1").private_key_and_cert_chain_pem.bytes())
    authority.cert_pem.write_to_path(str(ca_file))
    return pem, ca_file


def test_its_own_authority_is_for_localhost_and_whom_it_is_told(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    context = server_context(ca_file, ["emulator", "10.1.2.3"])
    assert [shakes_hands(context, ca_file, name) for name in ("localhost", "emulator", "10.1.2.3", "other")] == [
        True,
        True,
        True,
        False,
    ]


def test_what_it_is_given_is_shown_and_no_authority_made(tmp_path: Path) -> None:
    pem, authority = given(tmp_path)
    context = server_context(tmp_path / "ca.pem", given=pem)
    assert shakes_hands(context, authority, "emulator")
    assert not shakes_hands(context, authority, "localhost")
    assert not (tmp_path / "ca.pem").exists()


@pytest.mark.parametrize("is_given", [True, False])
def test_several_processes_get_the_same_in_a_file(tmp_path: Path, is_given: bool) -> None:
    pem, authority = given(tmp_path)
    file = tmp_path / "all.pem"
    server_file(tmp_path / "ca.pem", file, ["emulator"], pem if is_given else None)
    assert file.stat().st_mode & 0o077 == 0
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    assert shakes_hands(context, authority if is_given else tmp_path / "ca.pem", "emulator")


async def test_the_process_shows_what_it_is_given(tmp_path: Path) -> None:
    pem, authority = given(tmp_path)
    async with start_emulator(certificate_file=pem) as emulator, aiohttp.ClientSession() as http:
        trusting = ssl.create_default_context(cafile=authority)
        async with http.get(emulator.address, ssl=trusting) as response:
            assert response.status == 404
