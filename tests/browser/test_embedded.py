"""The embedded flow in a real browser, with Finch's own SDK as npm has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.browser.kit import sync_api
from tests.browser.pages import BEGIN, CALLBACK, Files, Latecomer, connected
from tests.browser.serving import EXAMPLES, example
from tests.serving import served

playwright = sync_api()
expect = playwright.expect

CDN = "https://prod-cdn.tryfinch.com/**"
FRAME = "#finch-connect-iframe"
SCRIPT = EXAMPLES / "embedded" / "connect.js"
FORM = f'<form method="post" action="{{server}}{BEGIN}"><button>Connect payroll</button></form>'
PAGE = f"""<!doctype html><html lang="en"><title>Payroll</title><h1>Payroll</h1>{FORM}
<script src="/sdk.js"></script>
<script src="/connect.js" data-callback="{CALLBACK}"></script>"""


@pytest.fixture
def sdk(npm: Path) -> Path:
    """Finch's SDK for a script element, unmodified."""
    return npm / "@tryfinch" / "react-connect" / "dist" / "index.js"


@pytest.fixture(params=["https", "http"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["embedded", "django_project"])
def name(request: pytest.FixtureRequest) -> str:
    """The example: Flask's, and Django's, which has the flow at an address of its own."""
    return str(request.param)


@pytest.fixture
def address(fake: FakeFinch, tls: tuple[Path, Path], name: str, scheme: str) -> Iterator[str]:
    """Where the example is."""
    with example(name, fake, tls=tls if scheme == "https" else None) as address:
        yield address


def sign_in(page: playwright.Page, address: str, name: str) -> None:
    page.goto(address)
    page.get_by_role("button", name="Acme Inc.").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    if name == "django_project":
        page.goto(f"{address}/embedded")
    page.wait_for_load_state()


@pytest.fixture
def signed_in(page: playwright.Page, address: str, name: str, sdk: Path) -> playwright.Page:
    """The example's page, with the SDK where Finch's own address is."""
    page.route(CDN, lambda route: route.fulfill(path=sdk, content_type="text/javascript"))
    sign_in(page, address, name)
    return page


def press(page: playwright.Page) -> None:
    page.wait_for_load_state()  # before the page's own script has run, the form leaves the page
    page.get_by_role("button", name="Connect payroll").click()


def choose(page: playwright.Page, decision: str) -> None:
    page.frame_locator(FRAME).get_by_role("button", name=decision, exact=True).click()


def problems(page: playwright.Page) -> list[str]:
    """What the page's console says is wrong from now on."""
    said: list[str] = []
    page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    return said


def test_an_employer_connects_within_the_page_and_sees_the_connection(
    signed_in: playwright.Page, fake: FakeFinch, address: str
) -> None:
    page, said = signed_in, problems(signed_in)

    press(page)
    choose(page, "Allow")

    expect(page.get_by_role("status").first).to_have_text("You are connected.")
    expect(page.get_by_text("Gusto")).to_be_visible()
    assert page.url == f"{address}/?finch=connected"
    assert fake.ledger.calls("token") == len(fake.ledger.tokens) == 1
    assert fake.ledger.sessions[0].redirect_uri is None
    assert said == []


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        ("Close", "You left before the connection was made. Nothing has changed."),
        ("Deny", "The connection was not completed. You can try again."),
    ],
)
def test_an_employer_who_declines_reads_so_and_may_try_again(
    signed_in: playwright.Page, fake: FakeFinch, decision: str, words: str
) -> None:
    page = signed_in

    press(page)
    choose(page, decision)
    expect(page.locator("output")).to_have_text(words)
    press(page)
    choose(page, "Allow")

    expect(page.get_by_role("status").first).to_have_text("You are connected.")
    assert fake.ledger.calls("token") == 1


def test_without_the_sdk_the_same_button_begins_the_redirect_flow(
    page: playwright.Page, fake: FakeFinch, address: str, name: str
) -> None:
    page.route(CDN, lambda route: route.abort())
    sign_in(page, address, name)

    press(page)
    page.wait_for_url(f"{fake.connect_origin}/authorize?**")
    page.get_by_role("button", name="Allow").click()

    expect(page.get_by_role("status")).to_have_text("You are connected.")
    assert fake.ledger.sessions[0].redirect_uri == f"{address}{CALLBACK}"


def test_a_busy_finch_is_waited_for_as_long_as_it_asks(
    signed_in: playwright.Page, fake: FakeFinch
) -> None:
    page = signed_in
    page.clock.install()
    fake.script("token", Behaviour.error(429, headers={"Retry-After": "60"}))

    press(page)
    choose(page, "Allow")
    expect(page.locator("output")).to_contain_text("Finch is very busy right now")
    assert fake.ledger.calls("token") == 1
    page.clock.fast_forward("01:01")

    expect(page.get_by_role("status").first).to_have_text("You are connected.")
    assert len(fake.ledger.tokens) == 1


# -- pages of the tests' own ------------------------------------------------------------------


@pytest.fixture
def own_page(
    fake: FakeFinch, tls: tuple[Path, Path], sdk: Path, npm: Path
) -> Iterator[Callable[..., str]]:
    """Serves *page* beside the middleware, and says where."""
    with ExitStack() as stack:

        def make(page: str, *, policy: str | None = None, **options: Any) -> str:
            files, late = Files(), Latecomer()
            address = stack.enter_context(served(late, tls=tls))
            files.policy = policy
            files.pages = {
                "/": page.replace("{server}", ""),
                "/sdk.js": sdk,
                "/connect.js": SCRIPT,
                "/react.js": npm / "react" / "umd" / "react.development.js",
                "/react-dom.js": npm / "react-dom" / "umd" / "react-dom.development.js",
                "/hook.js": sdk.with_name("react.es.js"),
                "/twice.js": TWICE,
                "/page.js": REACT,
                "/react-module.js": "export const { useRef, useEffect } = window.React;",
            }
            late.app = connected(fake, address, files, **options)
            return address

        yield make


#: What the page's own script does with what the SDK hands it.
HAND_OVER = f"""
window.answers = [];
const hand = async ({{code, state}}) => {{
  const answer = await fetch("{CALLBACK}", {{
    method: "POST",
    headers: {{"Content-Type": "application/json", Accept: "application/json"}},
    body: JSON.stringify({{code, state}}),
  }});
  window.answers.push(await answer.json());
}};
const begin = async () => (await fetch("{BEGIN}", {{method: "POST"}})).json();
"""
TWICE = (
    HAND_OVER
    + """
begin().then(opened => {
  const options = {apiConfig: {connectUrl: opened.connect_origin}, onSuccess: hand};
  FinchConnect.initialize(options);
  FinchConnect.initialize(options).open({sessionId: opened.session_id, state: opened.state});
});
"""
)
REACT = f"""
import {{ useFinchConnect }} from "/hook.js";
{HAND_OVER}
const e = React.createElement;
const press = open => e("button", {{onClick: open}}, "Connect payroll");
const options = opened => ({{
  apiConfig: {{connectUrl: opened.connect_origin}},
  onSuccess: hand,
  onError() {{}},
  onClose() {{}},
}});
const args = opened => ({{sessionId: opened.session_id, state: opened.state}});

const Hook = ({{opened}}) => {{
  const {{open}} = useFinchConnect(options(opened));
  return press(() => open(args(opened)));
}};
// The hook of SDK 5.0.0 stops listening in StrictMode, so careful pages do this instead.
const Effect = ({{opened}}) => {{
  const connect = React.useRef(null);
  React.useEffect(() => {{ connect.current = FinchConnect.initialize(options(opened)); }}, []);
  return press(() => connect.current.open(args(opened)));
}};
const ways = {{
  hooks: opened => [e(Hook, {{opened, key: 1}}), e(Hook, {{opened, key: 2}})],
  strict: opened => e(React.StrictMode, null, e(Effect, {{opened}})),
}};
begin().then(opened => ReactDOM.createRoot(document.querySelector("main")).render(
  ways[location.hash.slice(1)](opened)));
"""


def answers(page: playwright.Page, *, count: int) -> list[dict[str, str]]:
    page.wait_for_function(f"window.answers.length >= {count}")
    return list(page.evaluate("window.answers"))


def scripts(*names: str) -> str:
    return "".join(f'<script src="/{name}.js"></script>' for name in names)


IMPORTS = '<script type="importmap">{"imports": {"react": "/react-module.js"}}</script>'
REACT_PAGE = f"""<main></main>{IMPORTS}{scripts("react", "react-dom", "sdk")}
<script type="module" src="/page.js"></script>"""


@pytest.mark.parametrize("way", ["twice", "hooks", "strict"], ids=["plain", "two hooks", "Strict"])
def test_a_page_that_hands_the_code_over_twice_connects_once(
    page: playwright.Page, fake: FakeFinch, own_page: Callable[..., str], way: str
) -> None:
    if way == "twice":
        page.goto(own_page(scripts("sdk", "twice")))
    else:
        page.goto(f"{own_page(REACT_PAGE)}/#{way}")
        page.get_by_role("button", name="Connect payroll").first.click()
    choose(page, "Allow")

    first, second = answers(page, count=2)
    assert first == second
    assert first["outcome"] == "connected"
    assert fake.ledger.calls("token") == 1


def test_a_page_under_a_strict_policy_connects_without_a_violation(
    page: playwright.Page, fake: FakeFinch, own_page: Callable[..., str]
) -> None:
    said = problems(page)
    origin = fake.connect_origin
    policy = (
        f"default-src 'none'; script-src 'self'; connect-src 'self'; frame-src {origin}; "
        f"form-action 'self' {origin}; base-uri 'none'; require-trusted-types-for 'script'"
    )
    page.route("**/favicon.ico", lambda route: route.fulfill(status=204))
    page.goto(own_page(PAGE, policy=policy))

    press(page)
    choose(page, "Allow")

    page.wait_for_url("**/?finch=connected")
    assert fake.ledger.calls("token") == 1
    assert said == []
