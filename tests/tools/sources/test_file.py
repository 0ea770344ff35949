"""The file of sources: what is wrong with it is said with file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.fabric.yaml_file import ConfigurationError
from services.tools.sources import file
from services.tools.sources.file import McpStdioSettings, OpenApiSettings
from tests.tools.sources.conftest import EXAMPLES


def test_example_is_read() -> None:
    notes, bookings = file.load(EXAMPLES / "sources.yaml")
    assert isinstance(notes, McpStdioSettings)
    assert (notes.prefix, notes.args, notes.trust_annotations) == ("notes_", ["notes_mcp.py"], True)
    assert isinstance(bookings, OpenApiSettings)
    assert bookings.timeout is not None
    assert bookings.timeout.total_seconds() == 5
    assert bookings.tools["book_room"].idempotent


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("sources:\n  - name: a\n    kind: mcp_stdio\n", ":2: sources[0].command: is required"),
        ("sources:\n  - name: a\n    kind: ftp\n", ":2: sources[0]: Input tag 'ftp' found using 'kind' does not match"),
        ("sources:\n  - kind: python\n    module: a\n", ":2: sources[0].name: is required"),
        ("sources:\n  - {name: a b, kind: python, module: m}\n", ":2: sources[0].name: String should match pattern"),
        ("sources:\n  - name: a\n    kind: python\n    module: a-b\n", ":4: sources[0].module: String should match"),
        ("sources:\n  - name: a\n    kind: python\n    modul: ab\n", ":4: sources[0].modul: there is no such field"),
        ("sources: nothing\n", ":1: sources: Input should be a valid list"),
        ("source: []\n", ":1: sources: is required"),
        ("- a\n", ":1: "),
        ("", ":1: is empty"),
        (
            "sources:\n  - name: a\n    kind: mcp_http\n    url: ftp://x\n",
            ":4: sources[0].url: expected an http:// or https:// address",
        ),
        (
            "sources:\n  - name: a\n    kind: mcp_http\n    url: http://user:word@x/\n",
            ":4: sources[0].url: credentials do not belong into an address",
        ),
        (
            "sources:\n  - name: a\n    kind: mcp_http\n    url: http://x/\n    headers: {'a b': c}\n",
            ":5: sources[0].headers: 'a b' is not the name of a header",
        ),
        (
            "sources:\n  - name: a\n    kind: mcp_stdio\n    command: x\n    env:\n      T: {env: A, file: b}\n",
            ":6: sources[0].env.T: expected either `env: VARIABLE` or `file: PATH`",
        ),
        (
            "sources:\n  - name: a\n    kind: openapi\n    document: d\n    auth: {bearer: {env: A}, name: x}\n",
            ":5: sources[0].auth: `name` and `in` go together",
        ),
        (
            "sources:\n  - name: a\n    kind: openapi\n    document: d\n    tools:\n      x: {timeout: soon}\n",
            ":6: sources[0].tools.x.timeout: ",
        ),
        (
            "sources:\n  - {name: a, kind: python, module: m}\n  - {name: a, kind: python, module: n}\n",
            ":3: sources[1].name: there is another source 'a'",
        ),
    ],
)
def test_wrong_file_is_told_with_line_and_field(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        file.load(path)
    assert f"{path}{complaint}" in str(caught.value)


def test_every_complaint_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text("sources:\n  - {name: '', kind: python, module: '1', more: 2}\n")
    with pytest.raises(ConfigurationError) as caught:
        file.load(path)
    assert len(str(caught.value).splitlines()) == 3
