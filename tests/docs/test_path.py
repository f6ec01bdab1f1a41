"""README's "A request's path" names every file that a callback passes through."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import FrameType

from werkzeug.http import parse_cookie
from werkzeug.test import Client
from werkzeug.wrappers import Response

import finch_middleware
from finch_middleware import FinchConnect, FinchMiddleware
from finch_middleware.testing.fake_finch import FakeFinch
from tests.docs.snippets import ROOT
from tests.site import options_for

PACKAGE = Path(finch_middleware.__file__).parent


def _callbacks(tmp_path: Path) -> Iterator[list[str]]:
    """The file of each call in the package, in order: in the first callback, and in a later one."""
    called: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        # What is in a line of its caller is no call for a reader.
        if event == "call" and path.is_relative_to(PACKAGE) and "<" not in frame.f_code.co_name:
            called.append(str(path.relative_to(PACKAGE)))

    with FakeFinch() as fake:
        storage = f"sqlite:///{tmp_path}/finch.db"
        options = options_for(fake, "http://localhost/finch/callback", storage=storage)
        finch = FinchConnect(**options)
        browser = Client(FinchMiddleware(Response(), finch))
        for _ in range(2):
            opened = finch.begin(customer_id="acme", customer_name="Acme Inc.")
            for header in opened.headers.getlist("Set-Cookie"):
                for name, value in parse_cookie(header.partition(";")[0]).items():
                    browser.set_cookie(name, value)
            address = fake.allow(opened.headers["Location"])
            called.clear()
            gc.disable()  # what closes the storages of earlier tests is no part of a callback
            sys.setprofile(note)
            try:
                response = browser.get(address)
            finally:
                sys.setprofile(None)
                gc.enable()
            assert response.status_code == 303
            yield [name for name in called if not name.startswith("testing/")]


def test_the_path_of_a_request_names_every_file_of_a_callback(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text().partition("## A request's path")[2]

    first, later = _callbacks(tmp_path)

    story = {name for name in first + later if not name.startswith("storage/")}
    assert len(story) > 15
    assert {name for name in story if f"`{name}`" not in text} == set()


def test_the_path_of_a_request_stays_short(tmp_path: Path) -> None:
    _, later = _callbacks(tmp_path)

    assert len(set(later)) <= 22
    assert sum(one != other for one, other in pairwise(later)) <= 80
