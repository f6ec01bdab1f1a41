"""The ways in which a code comes back, so that one story can be told of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from finch_middleware.testing.fake_finch import FakeFinch
from tests.site import CALLBACK, Answer, Browser

#: Finch's redirect may or may not echo the state; the page's own script always has it.
every_way = pytest.mark.parametrize(
    ("flow", "echo_state"),
    [("redirect", True), ("redirect", False), ("embedded", True)],
    ids=["state", "no-state", "embedded"],
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Comeback:
    """A code that comes back as often as a browser is told to bring it."""

    flow: str
    fields: Mapping[str, str]

    @property
    def code(self) -> str:
        return self.fields["code"]

    def with_code(self, code: str) -> Comeback:
        """The same with another code."""
        return dataclasses.replace(self, fields={**self.fields, "code": code})

    def brought_by(self, browser: Browser) -> Answer:
        """What *browser* is answered: a page, or the JSON that its page's script gets."""
        if self.flow == "embedded":
            return browser.fetch(self.fields)
        return browser.get(f"{CALLBACK}?{urlencode(self.fields)}")


def allowed(fake: FakeFinch, browser: Browser, customer_id: str = "acme", *, flow: str) -> Comeback:
    """A flow of this browser that the employer has allowed at Finch."""
    browser.site.opening["flow"] = flow
    if flow == "embedded":
        opened = browser.embedded(customer_id)
        fields = fake.allow_embedded(opened["session_id"], state=opened["state"])
        return Comeback(flow=flow, fields=fields)
    callback = fake.allow(browser.location(customer_id))
    return Comeback(flow=flow, fields=dict(parse_qsl(urlsplit(callback).query)))


def connected(answer: Answer) -> bool:
    """Whether the person, or the page's script, is told that the payroll is connected."""
    if answer.status == 200:
        return bool(answer.json["outcome"] == "connected")
    return answer.status == 303 and "finch=connected" in answer.location
