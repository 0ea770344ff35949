"""What the emulator shows to TLS clients: a certificate of its own authority, made at start, or one that it is given.

The authority's certificate is written to a file; its key is only in memory."""

import ssl
from collections.abc import Sequence
from pathlib import Path

import trustme

NAMES = ("localhost", "127.0.0.1", "::1")


def server_context(ca_file: Path, names: Sequence[str] = (), given: Path | None = None) -> ssl.SSLContext:
    """A server's TLS context for :data:`NAMES` and ``names``; the authority's certificate goes to ``ca_file``.

    ``given``: a PEM file of key and certificates, which are shown instead; then nothing is written.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if given is not None:
        context.load_cert_chain(given)
    else:
        _issued(ca_file, names).configure_cert(context)
    return context


def server_file(ca_file: Path, file: Path, names: Sequence[str] = (), given: Path | None = None) -> None:
    """The same for several processes: key and certificates go to ``file``, which only its owner may read."""
    pem = given.read_bytes() if given is not None else _issued(ca_file, names).private_key_and_cert_chain_pem.bytes()
    file.touch(mode=0o600, exist_ok=False)
    file.write_bytes(pem)


def _issued(ca_file: Path, names: Sequence[str]) -> trustme.LeafCert:
    authority = trustme.CA(organization_name="Live emulator")
    ca_file.parent.mkdir(parents=True, exist_ok=True)
    authority.cert_pem.write_to_path(str(ca_file))
    return authority.issue_cert(*NAMES, *names)
