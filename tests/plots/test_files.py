import shutil
import struct
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from mechdistill.errors import MechdistillError
from mechdistill.plots import browser as find_browser
from mechdistill.plots import to_bytes


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_pictures_are_as_wide_as_asked_for_and_made_without_a_network(
    figures: dict[str, go.Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    from kaleido import PageGenerator

    pages: list[str] = []
    write = PageGenerator.generate_index
    monkeypatch.setattr(PageGenerator, "generate_index", lambda self: pages.append(write(self)) or pages[-1])
    figure = figures["copying"]
    png = to_bytes(figure, ".png", 640)
    assert struct.unpack(">II", png[16:24]) == (1280, 2 * figure.layout.height), "two pixels a point"
    svg = to_bytes(figure, ".svg", 700).decode()
    assert 'width="700"' in svg
    assert "How copying is learned" in svg
    assert to_bytes(figure, ".pdf", 700).startswith(b"%PDF")
    assert len(pages) == 3
    for page in pages:
        assert "plotly.min.js" in page
        assert "http" not in page


def test_what_cannot_be_drawn_says_so(figures: dict[str, go.Figure], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MechdistillError, match=r"written as \.html, \.png, \.svg, \.pdf; choose"):
        to_bytes(figures["copying"], ".gif", 800)
    from choreographer.browsers.chromium import Chromium

    monkeypatch.setattr(Chromium, "find_browser", lambda **_: None)
    with pytest.raises(MechdistillError, match="apt-get install chromium"):
        find_browser()
    with pytest.raises(MechdistillError, match="plotly_get_chrome"):
        to_bytes(figures["copying"], ".png", 800)
    assert to_bytes(figures["copying"], ".html", 0).startswith(b"<!DOCTYPE html>")


def test_a_browser_that_fails_is_one_line(
    figures: dict[str, go.Figure], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import kaleido

    def broken(*_: Any, **__: Any) -> bytes:
        raise RuntimeError("it crashed")

    monkeypatch.setattr("mechdistill.plots._files.browser", lambda: "/usr/bin/some-browser")
    monkeypatch.setattr(kaleido, "calc_fig_sync", broken)
    with pytest.raises(MechdistillError, match=r"^/usr/bin/some-browser: drew no \.png .*it crashed.*write \.html"):
        to_bytes(figures["copying"], ".png", 800)
