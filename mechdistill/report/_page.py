"""One HTML page that needs nothing but itself: markup, styles, scripts, and one compressed payload.

The payload is a JSON value and named blobs, gzipped and in base64; scripts get it by `loadPayload()`, of
`page/payload.js`. A policy inside the page forbids every request, so that it is offline by rule and not by luck.
"""

import base64
import gzip
import html
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "font-src data:; base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True)
class Payload:
    """What scripts read: a JSON value, and bytes by name (numbers, or texts in UTF-8)."""

    json: Mapping[str, Any]
    blobs: Mapping[str, bytes] = field(default_factory=dict[str, bytes])

    def packed(self) -> bytes:
        """Gzipped: the length of the header as four little-endian bytes, the header, then the blobs in its order.

        The header is JSON: {"json": the value, "blobs": [[name, length], ...]}. The same payload gives the same bytes.
        Raises ValueError for nan and inf, which are no JSON.
        """
        lengths = [[name, len(blob)] for name, blob in self.blobs.items()]
        header = {"json": self.json, "blobs": lengths}
        text = json.dumps(header, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
        return gzip.compress(struct.pack("<I", len(text)) + text + b"".join(self.blobs.values()), 6, mtime=0)


def asset(name: str) -> str:
    """The text of a script or style that comes with the package."""
    return files("mechdistill.report").joinpath("page", name).read_text(encoding="utf-8")


def page(*, title: str, body: str, styles: Sequence[str], scripts: Sequence[str], payload: Payload) -> str:
    """A whole HTML5 page. `title` is text; `body` is markup, in which whatever comes from a user is already escaped.

    Base styles and `loadPayload` come first; `styles` and `scripts` are texts, in order.
    """
    sheets = "".join(f"<style>\n{text}</style>\n" for text in (asset("base.css"), *styles))
    programs = "".join(f"<script>\n{text}</script>\n" for text in (asset("payload.js"), *scripts))
    packed = base64.b64encode(payload.packed()).decode()
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html.escape(title)}</title>\n{sheets}</head>\n<body>\n{body}\n"
        f'<script type="application/octet-stream" id="payload">{packed}</script>\n{programs}</body>\n</html>\n'
    )
