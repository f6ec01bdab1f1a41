"""README's "A request's path" names every file that a callback passes through."""

from __future__ import annotations

import sys
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


def test_the_path_of_a_request_names_every_file_of_a_callback(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text().partition("## A request's path")[2]
    called: set[Path] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called.add(Path(frame.f_code.co_filename))

    with FakeFinch() as fake:
        storage = f"sqlite:///{tmp_path}/finch.db"
        options = options_for(fake, "http://localhost/finch/callback", storage=storage)
        finch = FinchConnect(**options)
        browser = Client(FinchMiddleware(Response(), finch))
        opened = finch.begin(customer_id="acme", customer_name="Acme Inc.")
        for header in opened.headers.getlist("Set-Cookie"):
            for name, value in parse_cookie(header.partition(";")[0]).items():
                browser.set_cookie(name, value)
        address = fake.allow(opened.headers["Location"])
        sys.setprofile(note)
        try:
            response = browser.get(address)
        finally:
            sys.setprofile(None)

    assert response.status_code == 303
    ours = {str(path.relative_to(PACKAGE)) for path in called if path.is_relative_to(PACKAGE)}
    story = {name for name in ours if not name.startswith(("testing/", "storage/"))}
    assert len(story) > 15
    assert {name for name in story if f"`{name}`" not in text} == set()
