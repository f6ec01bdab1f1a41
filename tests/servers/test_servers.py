"""The same flows under every server."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from finch_middleware.tickets import COOKIES_LIMIT_BYTES
from tests.delivering import PATH, headers_of
from tests.servers.application import BEGIN, CALLBACK
from tests.servers.running import MOUNTED, PREFIX, SERVERS, Reached
from tests.site import NAVIGATION, SAME_ORIGIN_FETCH, Browser

MANUAL = Path(__file__).parents[2] / "docs" / "deployment.md"

every_server = pytest.mark.parametrize("name", SERVERS)

OWN_NAVIGATION = {**NAVIGATION, "Sec-Fetch-Site": "same-origin"}
_PATIENCE_SECONDS = 60


@pytest.fixture
def browser(reached: Reached) -> Browser:
    return Browser(reached)  # type: ignore[arg-type]  # all that it needs of a site


def begun(browser: Browser) -> dict[str, str]:
    """What a script gets to open Finch's SDK with."""
    answer = browser.request("POST", BEGIN, headers=SAME_ORIGIN_FETCH, body=b"")
    assert answer.status == 200
    return dict(answer.json)


def handed_over(browser: Browser, reached: Reached) -> dict[str, str]:
    opened = begun(browser)
    return reached.fake.allow_embedded(opened["session_id"], state=opened["state"])


def chunked(browser: Browser, fields: dict[str, str]) -> tuple[int, Any]:
    """Post *fields* to the callback in chunks: the status, and the JSON that says why."""
    address = urlsplit(browser.site.origin)
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    head = [
        f"POST {CALLBACK} HTTP/1.1",
        f"Host: {address.netloc}",
        "Content-Type: application/json",
        "Accept: application/json",
        "Sec-Fetch-Site: same-origin",
        f"Cookie: {cookies}",
        "Transfer-Encoding: chunked",
        "Connection: close",
    ]
    body = json.dumps(fields)
    chunks = "".join(f"{len(part):x}\r\n{part}\r\n" for part in (body[:9], body[9:])) + "0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", address.port or 80), _PATIENCE_SECONDS) as line:
        line.sendall(("\r\n".join(head) + "\r\n\r\n" + chunks).encode())
        answer = b"".join(iter(lambda: line.recv(65_536), b""))
    first, _, rest = answer.partition(b"\r\n")
    content = rest.partition(b"\r\n\r\n")[2]
    found = content[content.find(b"{") : content.rfind(b"}") + 1]
    return int(first.split()[1]), json.loads(found or b"{}")


def expected_status(name: str) -> int:
    """The status of a chunked body under that server, as the manual's table has it."""
    section = MANUAL.read_text(encoding="utf-8").split("## Servers\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if "|" in line]
    [(_, _, body)] = [row for row in lines if name.startswith(row[0].split("'")[0].lower())]
    return 200 if body == "read" else int(body[:3])


@every_server
@pytest.mark.parametrize("size_bytes", [100, 256 * 1024])
def test_a_webhook_is_verified_byte_for_byte(browser: Browser, size_bytes: int) -> None:
    body = b'{"event_type": "test", "data": "%s"}'
    body = body.replace(b"%s", b"x" * (size_bytes - len(body) + 2))
    signed = {**headers_of(body), "Content-Length": str(size_bytes)}

    received = browser.request("POST", PATH, headers=signed, body=body)
    altered = browser.request("POST", PATH, headers=signed, body=body[:-3] + b"y" + body[-2:])

    assert (received.status, altered.status) == (200, 401)


@every_server
def test_the_redirect_flow_stores_one_token(reached: Reached, browser: Browser) -> None:
    page = browser.get(BEGIN)
    opened = browser.request("POST", BEGIN, headers=OWN_NAVIGATION, body=b"")
    callback = reached.fake.allow(opened.location)
    calls = reached.fake.ledger.calls("token")

    first, second = browser.get(callback), browser.get(callback)

    assert '<form method="post">' in page.text
    assert first.status == second.status == 303
    assert first.location == second.location
    assert first.location.startswith("/?finch=connected")
    assert reached.fake.ledger.calls("token") == calls + 1


@every_server
def test_the_embedded_flow_stores_one_token(reached: Reached, browser: Browser) -> None:
    handed = handed_over(browser, reached)

    first, second = browser.fetch(handed), browser.fetch(handed)

    assert first.json == second.json
    assert first.json["outcome"] == "connected"
    assert reached.fake.ledger.presented(handed["code"]) == 1


@every_server
def test_a_chunked_body_behaves_or_is_refused_with_its_reason(
    reached: Reached, browser: Browser, name: str
) -> None:
    handed = handed_over(browser, reached)

    status, answer = chunked(browser, handed)
    again = browser.fetch(handed)

    assert status == expected_status(name)
    if status == 411:
        assert answer["reason"] == "length_required"
        assert answer["retry"] == "reload"
    else:
        assert answer["outcome"] == "connected"
    assert again.json["outcome"] == "connected"
    assert reached.fake.ledger.presented(handed["code"]) == 1


@every_server
def test_a_body_over_the_limit_is_refused_with_its_reason(
    reached: Reached, browser: Browser
) -> None:
    handed = handed_over(browser, reached)

    answer = browser.fetch({**handed, "more": "x" * 20_000})

    assert answer.status == 413
    assert answer.json["reason"] == "too_large"
    assert reached.fake.ledger.presented(handed["code"]) == 0


@every_server
def test_a_head_is_answered_without_a_body(reached: Reached, browser: Browser) -> None:
    answers = [browser.request("HEAD", path) for path in (BEGIN, CALLBACK)]

    assert [(answer.status, answer.body) for answer in answers] == [(200, b"")] * 2


@every_server
def test_what_is_not_ours_passes_whole(reached: Reached, browser: Browser) -> None:
    answer = browser.request("POST", "/upload", body=b"x" * 300_000)

    assert answer.text == "the application got 300000"


@every_server
def test_t35_tickets_leave_room_in_the_head_that_a_server_reads_by_default(
    browser: Browser,
) -> None:
    for _ in range(6):
        begun(browser)
    tickets = len("; ".join(f"{name}={value}" for name, value in browser.cookies.items()))
    # As much as tickets may ever take, beside what a browser sends.
    browser.cookies["session"] = "x" * (COOKIES_LIMIT_BYTES - tickets - len("; session="))
    headers = {"User-Agent": "Mozilla/5.0 (X11)".ljust(150, "x"), "Referer": "/".ljust(250, "x")}

    answer = browser.request("POST", "/upload", body=b"x", headers={**NAVIGATION, **headers})

    assert len(browser.cookies) == 6
    assert answer.text == "the application got 1"


@every_server
def test_a_ticket_in_a_second_cookie_field_is_found_where_a_login_is_asked(
    reached: Reached, browser: Browser
) -> None:
    opened = browser.request("POST", BEGIN, headers=OWN_NAVIGATION, body=b"")
    callback = urlsplit(reached.fake.allow(opened.location))
    [(name, value)] = browser.cookies.items()
    connection = http.client.HTTPConnection(urlsplit(reached.origin).netloc, timeout=60)

    connection.putrequest("GET", f"{callback.path}?{callback.query}")
    for field in ("session=1; theme=dark", f"{name}={value}"):
        connection.putheader("Cookie", field)
    connection.endheaders()
    response = connection.getresponse()
    connection.close()

    assert response.status == 303
    assert "finch=connected" in response.headers["Location"]


def test_a_second_interpreter_that_cannot_load_cryptography_names_the_option(
    started: Callable[..., Reached],
) -> None:
    apart, in_one = started("uwsgi-two"), started("uwsgi-two-in-one")

    pages = [
        Browser(reached).get(f"{path}{CALLBACK}")  # type: ignore[arg-type]  # all that it needs
        for reached in (apart, in_one)
        for path in ("/a", PREFIX)
    ]

    assert "start uWSGI with --single-interpreter" in apart.log()
    assert "ImportError" not in in_one.log()
    assert [page.status for page in pages[2:]] == [400, 400]


@pytest.mark.parametrize("name", MOUNTED)
def test_both_sides_work_where_the_server_removes_the_prefix(
    started: Callable[..., Reached], name: str
) -> None:
    reached = started(name, path=PREFIX + CALLBACK)
    browser = Browser(reached)  # type: ignore[arg-type]  # all that it needs of a site

    opened = browser.request("POST", PREFIX + BEGIN, headers=OWN_NAVIGATION, body=b"")
    callback = reached.fake.allow(opened.location)
    answer = browser.get(callback)

    assert callback.startswith(f"{reached.origin}{PREFIX}{CALLBACK}?code=")
    assert answer.location.startswith("/?finch=connected")
