"""What the manual shows for each framework connects an employer."""

from __future__ import annotations

import re
from types import ModuleType
from urllib.parse import urlsplit

import pytest

from finch_middleware.testing import FakeFinch
from tests.docs.asking import Ask, asking
from tests.docs.snippets import page, run, section, snippets

ORIGIN = "http://localhost:5000"

pytestmark = [
    pytest.mark.usefixtures("configured"),
    # WebOb, below Pyramid, still imports it.
    pytest.mark.filterwarnings("ignore:'cgi' is deprecated:DeprecationWarning"),
]


def python_of(name: str, heading: str | None = None) -> list[str]:
    """The Python under that heading; without one what stands before the first."""
    text = page(name)
    part = text.split("\n## ")[0] if heading is None else section(text, f"## {heading}")
    return [each.text for each in snippets(part, "python")]


#: Heading of the page: the module that it needs.
FRAMEWORKS = {
    "Flask": "flask",
    "Pyramid": "pyramid",
    "Bottle": "bottle",
    "Falcon": "falcon",
    "Plain WSGI": "werkzeug",
    "FastAPI and Starlette": "fastapi",
}


def returned(ask: Ask, fake: FakeFinch, *, begin_path: str = "/connect") -> tuple[int, str]:
    """Status and place, for the browser that has pressed the button, allowed, and come back."""
    status, location = ask("POST", begin_path)
    assert status == 303
    callback = urlsplit(fake.allow(location))
    status, location = ask("GET", f"{callback.path}?{callback.query}")
    # Some frameworks complete an address before they send it.
    return status, location.removeprefix(ORIGIN).partition("&")[0]


@pytest.mark.parametrize("heading", FRAMEWORKS)
def test_an_employer_is_connected(
    heading: str, fake: FakeFinch, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(FRAMEWORKS[heading])
    code = [*python_of("frameworks"), *python_of("frameworks", heading)]
    module = run(code, "of_the_manual", monkeypatch)

    status, location = returned(asking(module.app, origin=ORIGIN), fake)

    assert (status, location) == (303, "/?finch=connected")
    assert len(module.finch.connections.for_customer("acme")) == 1


@pytest.fixture
def django_site(fake: FakeFinch, monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, Ask]:
    """The settings and URLconf of the page in one module, and a browser of Django's own."""
    pytest.importorskip("django")
    from tests.adapters import django_site

    django_site.set_up()
    from django.test import Client

    module = run(
        [*python_of("frameworks"), *python_of("frameworks", "Django")], "of_the_manual", monkeypatch
    )
    module.FINCH |= {"api_url": fake.api_url, "connect_origin": fake.connect_origin}
    browser = Client(SERVER_NAME="localhost")

    def ask(method: str, address: str) -> tuple[int, str]:
        answer = browser.generic(method, address, secure=True, HTTP_SEC_FETCH_SITE="same-origin")
        return answer.status_code, answer.headers.get("Location", "")

    return module, ask


def test_an_employer_is_connected_with_django(
    fake: FakeFinch, django_site: tuple[ModuleType, Ask]
) -> None:
    from django.test import override_settings

    module, ask = django_site

    with override_settings(FINCH=module.FINCH, ROOT_URLCONF=module):
        status, location = returned(ask, fake)
        found = module.finch().connections.for_customer("acme")

    assert (status, location) == (303, "/?finch=connected")
    assert len(found) == 1


def test_an_employer_is_connected_with_djangos_begin_view(
    fake: FakeFinch, django_site: tuple[ModuleType, Ask]
) -> None:
    from django.test import override_settings

    module, ask = django_site
    more = {"begin_path": "/connect-payroll", "customer_of": module.current_customer}

    with override_settings(FINCH={**module.FINCH, **more}, ROOT_URLCONF=module):
        status, location = returned(ask, fake, begin_path="/connect-payroll")

    assert (status, location) == (303, "/?finch=connected")


def test_the_first_connections_page_lists_what_it_connects(
    fake: FakeFinch, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = python_of("first_connection", "An application of your own")
    module = run(code, "of_the_manual", monkeypatch)
    browser = module.app.test_client()

    back = fake.allow(browser.post("/connect", base_url=ORIGIN).headers["Location"])
    answer = browser.get(back, follow_redirects=True)

    assert "gusto: company, directory" in answer.text


def test_every_framework_of_the_page_is_run() -> None:
    headings = re.findall(r"^## (.+)$", page("frameworks"), flags=re.MULTILINE)

    assert headings == ["Signed out at the callback", *FRAMEWORKS, "Django", "Another framework"]
