"""Where the callback is; every other path is the application's."""

from __future__ import annotations

import warnings

import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Response

from finch_middleware import FinchMiddleware
from finch_middleware.testing.fake_finch import FakeFinch
from tests.site import CALLBACK, Browser, MakeSite
from tests.story.oracle import exchanges, tokens_of
from tests.story.ways import both_ways


@both_ways
@pytest.mark.parametrize("mount", ["/app", "/app/of/finch", "/%C3%A9"])
def test_a_mounted_application_finishes_its_flows(
    fake: FakeFinch, make_site: MakeSite, mount: str
) -> None:
    site = make_site(path=mount + CALLBACK, callback_path=CALLBACK)
    browser = Browser(site)
    callback = fake.allow(browser.location())
    mounted_at = "/é".encode().decode("latin-1") if "%" in mount else mount
    site.app = DispatcherMiddleware(Response("nobody", status=404), {mounted_at: site.app})

    answer, elsewhere = browser.get(callback), browser.get(callback.replace(mount, ""))

    assert "finch=connected" in answer.location
    assert elsewhere.status == 404
    assert exchanges(fake)[0]["redirect_uri"] == site.origin + mount + CALLBACK
    assert tokens_of(site, "acme") == list(fake.ledger.tokens)


@both_ways
@pytest.mark.parametrize("path", ["/zur%C3%BCck", "/%E6%88%BB%E3%82%8B/finch", "/a%20b%2Bc"])
def test_a_path_may_have_any_letters(fake: FakeFinch, make_site: MakeSite, path: str) -> None:
    site = make_site(path=path)
    browser = Browser(site)

    answer = browser.get(fake.allow(browser.location()))

    assert "finch=connected" in answer.location
    assert exchanges(fake)[0]["redirect_uri"] == site.origin + path


def test_two_clients_live_side_by_side(fake: FakeFinch, make_site: MakeSite) -> None:
    outer = make_site(path="/one/callback")
    inner = make_site(path="/two/callback", redirect_uri=outer.origin + "/two/callback")
    outer.app = FinchMiddleware(outer.app, inner.finch)
    browser = Browser(outer)
    first = fake.allow(browser.location("acme"))
    response = inner.finch.begin(customer_id="umbrella", customer_name="Umbrella")
    second = fake.allow(response.headers["Location"])
    cookie = response.headers["Set-Cookie"].partition(";")[0].partition("=")
    browser.cookies[cookie[0]] = cookie[2]

    answers = [browser.get(second), browser.get(first)]

    assert all("finch=connected" in each.location for each in answers)
    assert {each["redirect_uri"] for each in exchanges(fake)} == {
        outer.origin + "/one/callback",
        outer.origin + "/two/callback",
    }


@pytest.mark.parametrize(
    ("mount", "options", "warned"),
    [
        ("/app", {}, ["pass callback_path='/finch/callback'"]),
        ("/app", {"callback_path": CALLBACK}, []),
        ("", {}, []),
        ("/", {}, []),
        ("/other", {}, []),
    ],
    ids=["forgotten", "given", "no prefix", "a slash alone", "another prefix"],
)
def test_a_mount_without_callback_path_warns_at_begin_before_anybody_signs_in(
    make_site: MakeSite, mount: str, options: dict[str, str], warned: list[str]
) -> None:
    finch = make_site(path="/app" + CALLBACK, **options).finch
    environ = EnvironBuilder(path="/connect", base_url=f"http://localhost{mount}").get_environ()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            finch.begin(request=environ, customer_id="acme", customer_name="Acme Inc.")

    assert [str(each.message).partition("forwards it: ")[2] for each in caught] == warned
    assert {each.filename for each in caught} <= {__file__}
