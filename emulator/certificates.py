"""The emulator's own authority: made at start, its certificate written to a file, its own key only in memory."""

import ssl
from pathlib import Path

import trustme

NAMES = ("localhost", "127.0.0.1", "::1")


def server_context(ca_file: Path) -> ssl.SSLContext:
    """A server's TLS context for :data:`NAMES`; the authority's certificate goes to ``ca_file``."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _issued(ca_file).configure_cert(context)
    return context


def server_file(ca_file: Path, file: Path) -> None:
    """The same for several processes: key and certificates go to ``file``, which only its owner may read."""
    pem = _issued(ca_file).private_key_and_cert_chain_pem.bytes()
    file.touch(mode=0o600, exist_ok=False)
    file.write_bytes(pem)


def _issued(ca_file: Path) -> trustme.LeafCert:
    authority = trustme.CA(organization_name="Live emulator")
    ca_file.parent.mkdir(parents=True, exist_ok=True)
    authority.cert_pem.write_to_path(str(ca_file))
    return authority.issue_cert(*NAMES)
