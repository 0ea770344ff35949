"""The emulator's own authority: made at start, its certificate written to a file, its keys only in memory."""

import ssl
from pathlib import Path

import trustme

NAMES = ("localhost", "127.0.0.1", "::1")


def server_context(ca_file: Path) -> ssl.SSLContext:
    """A server's TLS context for :data:`NAMES`; the authority's certificate goes to ``ca_file``."""
    authority = trustme.CA(organization_name="Live emulator")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*NAMES).configure_cert(context)
    ca_file.parent.mkdir(parents=True, exist_ok=True)
    authority.cert_pem.write_to_path(str(ca_file))
    return context
