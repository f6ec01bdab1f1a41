"""The filter for access logs, with the servers that write them."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, strategies as st
from werkzeug.serving import make_server

from finch_middleware.adapters.access_log import RedactCallback, redacted
from finch_middleware.testing.fake_finch import FakeFinch
from finch_middleware.testing.fake_finch.wire import shut_down
from tests.canaries.spellings import hits
from tests.site import Browser, Site
from tests.threats.workers import secure_fake, workers

_FORMAT = '%(h)s "%(r)s" %(s)s %(q)s %({cookie}i)s "%(f)s"'


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def werkzeug_log() -> Iterator[_Lines]:
    logger, lines, redact = logging.getLogger("werkzeug"), _Lines(), RedactCallback()
    level = logger.level
    logger.addHandler(lines)
    logger.addFilter(redact)
    logger.setLevel(logging.INFO)
    yield lines
    logger.setLevel(level)
    logger.removeFilter(redact)
    logger.removeHandler(lines)


@pytest.mark.parametrize("storage_options", ["memory"], indirect=True)
def test_werkzeugs_access_log_has_the_path_and_no_code(
    fake: FakeFinch, site: Site, browser: Browser, werkzeug_log: _Lines
) -> None:
    server = make_server("127.0.0.1", 0, site.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    callback = fake.allow(browser.location("acme"))
    site.origin = f"http://127.0.0.1:{server.server_port}"

    answer = browser.get(callback)
    shut_down(server)
    thread.join()
    server.server_close()

    assert answer.status == 303
    [line] = werkzeug_log.lines
    assert "GET /finch/callback?code=…&state=… HTTP/1.1" in line
    assert hits(line.encode(), _given(callback)) == []


@pytest.mark.full
def test_gunicorns_access_log_has_the_path_and_no_code(tmp_path: Path) -> None:
    log = tmp_path / "access"
    arguments = ["-w", "1", "--access-logfile", str(log), "--access-logformat", _FORMAT]
    with secure_fake() as fake, workers(fake, tmp_path, arguments=arguments) as running:
        browser = Browser(cast(Site, running))
        callback = fake.allow(browser.location("acme"))
        cookies = dict(browser.cookies)
        answer = browser.get(callback, Referer=callback)

    assert answer.status == 303
    written = log.read_text()
    assert '"GET /finch/callback?code=…&state=… HTTP/1.1" 303 code=…&state=…' in written
    assert hits(written.encode(), {**_given(callback), **cookies}) == []


def _given(callback: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(callback).query).items()}


def _record(message: str, arguments: Any) -> logging.LogRecord:
    return logging.LogRecord("access", logging.INFO, "here", 1, message, arguments, None)


@pytest.mark.parametrize(
    ("message", "arguments", "logged"),
    [
        ("%s", ("GET /cb?code=c0de HTTP/1.1",), "GET /cb?code=… HTTP/1.1"),
        ('"%s" %s', ("GET /cb?a=1&state=c0de&b=2", 200), '"GET /cb?a=1&state=…&b=2" 200'),
        ("GET /join?invitation=fm1%2Ek1%2Ec0de&x=1", None, "GET /join?invitation=…&x=1"),
        ("%s", (f"GET /join#fm1.k1.{'c0de' * 9} 200",), "GET /join#… 200"),
        ("GET /cb?c%6fde=c0de", None, "GET /cb?c%6fde=…"),
        ("GET /cb?code=%s", ("c0de",), "GET /cb?code=…"),
        ("GET /cb?%s=%s", ("state", "c0de"), "GET /cb?state=…"),
        ("%s", ("0=?code=c0de",), "0=?code=…"),
        ("GET /cb?%63%6F%64%65=c0de&st%61te=c0de", None, "GET /cb?%63%6F%64%65=…&st%61te=…"),
        (
            "GET /login?next=/cb%3Fcode%3Dc0de%26state%3Dc0de&x=1",
            None,
            "GET /login?next=/cb%3Fcode%3D…%26state%3D…&x=1",
        ),
        ("%(q)s", ({"q": "code=c0de"},), "code=…"),
        ("%(n)d", ({"n": 7},), "7"),
        ("%s", ("Cookie: __Host-finch-abcd_-12=fm1.c0de; a=b",), None),
        ("%s", ("/cb?code=c0de;c0de&x=1",), "/cb?code=…&x=1"),
        ("%s", ("/cb?zip_code=1&my=code=2&encode=3",), "/cb?zip_code=1&my=code=…&encode=3"),
        ("nothing to hide in code = 1", None, "nothing to hide in code = 1"),
        ("%s", ("/cb?code=&state=",), "/cb?code=&state="),
    ],
)
def test_a_line_keeps_all_but_the_values(message: str, arguments: Any, logged: str | None) -> None:
    record = _record(message, arguments)

    assert RedactCallback().filter(record)

    line = record.getMessage()
    assert line == (logged or "Cookie: __Host-finch-abcd_-12=…; a=b")


SPELLINGS = {
    "capitals": "/cb?CODE={}&State={}",
    "semicolon": "/cb?x=1;code={};state={}",
    "index": "/cb?code[]={}&state[0]={}",
    "encoded index": "/cb?code%5B%5D={}&state%5b0%5d={}",
    "fragment": "/cb#code={}&x=1#state={}",
    "parameter of a parameter": "/cb?q=code={}&q=state={}",
    "quoted query": 'query="code={}&state={}"',
    "query as a value": "query=code={}&state={}",
    "word before": "args code={} state={}",
    "HTML": "/cb?x=1&amp;code={}&#38;state={}",
    "escaped ampersand": "/cb?x=1\\u0026code={}\\x26state={}",
    "encoded once": "/login?next=%2Fcb%3Fcode%3D{}%26state%3D{}",
    "encoded twice": "/login?next=%252Fcb%253Fcode%253D{}%2526state%253D{}",
    "encoded three times": "/login?next=%25252Fcb%25253Fcode%25253D{}%252526state%25253D{}",
    "encoded letters, twice": "/cb?%2563ode={}&s%2554ate={}",
    "encoded in a fragment": "/login#next=%2Fcb%23code%3D{}%26state%3D{}",
    "JSON": '{{"code": "{}", "state":"{}"}}',
    "JSON in JSON": '{{"body": "{{\\"code\\": \\"{}\\", \\"state\\":\\"{}\\"}}"}}',
    "encoded JSON": "/cb?x=%7B%22code%22%3A%22{}%22%2C%22state%22%3A+%22{}%22%7D",
    "dict": "{{'code': '{}', 'state': '{}'}}",
    "dict of bytes": "{{b'code': b'{}', b'state': [b'{}']}}",
    "dict of lists": "{{'code': ['{}'], 'state': ['{}', '1']}}",
    "pairs": "ImmutableMultiDict([('code', '{}'), ('state', '{}')])",
    "keywords": "finish(code='{}', state=\"{}\")",
}


@pytest.mark.parametrize("line", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("more", ["", "%26more", "'more", "%2526more", "=more"])
def test_t17_no_spelling_of_a_parameter_shows_its_value(line: str, more: str) -> None:
    record = _record("%s", (line.format(f"c0de{more}", f"c0de{more}"),))

    RedactCallback().filter(record)

    logged = record.getMessage()
    assert "c0de" not in logged
    assert logged.count("…") >= 1


@pytest.mark.parametrize("part", ["code['", '"code":"', "%25", "\\", "&code%5b", "'code',", '"x'])
def test_a_hostile_line_costs_no_more_than_its_length(part: str) -> None:
    line = f'"code": "{part * (64_000 // len(part))}'
    began = time.thread_time()

    redacted(line)
    redacted(line[9:])

    assert time.thread_time() - began < 2


def test_a_value_that_a_mapping_names_is_hidden_in_it() -> None:
    record = _record("%(CODE)s %(n)s", ({"CODE": "c0de", "n": "1"},))

    RedactCallback().filter(record)

    assert record.getMessage() == "… 1"


@pytest.mark.parametrize(
    "cookie", ["{'__Host-finch-abcd_-12': '%s'}", "finch-abcd_-12%%3D%s", '["finch", "%s"]']
)
def test_a_ticket_is_hidden_wherever_it_is(cookie: str) -> None:
    ticket = f"fm1.k1.{'A' * 100}"

    assert ticket[20:] not in redacted(cookie % ticket)


def test_a_mapping_of_the_application_is_left_as_it_is() -> None:
    atoms = {"r": "GET /cb?code=c0de", "s": 200}
    record = _record("%(r)s", (atoms,))

    RedactCallback().filter(record)

    assert record.getMessage() == "GET /cb?code=…"
    assert atoms["r"] == "GET /cb?code=c0de"


@given(before=st.text(max_size=30), after=st.text(max_size=30), name=st.sampled_from("?&"))
def test_no_surrounding_text_keeps_a_code_visible(before: str, after: str, name: str) -> None:
    code = secrets.token_hex(12)

    logged = redacted(f"{before}{name}code={code}{after}")

    assert code not in logged


def test_arguments_stay_apart_for_formatters_that_read_them() -> None:
    record = _record('%s - "%s %s HTTP/%s" %d', ("1.2.3.4", "GET", "/cb?code=c0de", "1.1", 303))

    RedactCallback().filter(record)

    assert record.args == ("1.2.3.4", "GET", "/cb?code=…", "1.1", 303)


@given(message=st.text(max_size=60), arguments=st.tuples(st.integers() | st.text() | st.none()))
def test_no_record_is_dropped_and_none_breaks(message: str, arguments: tuple[Any]) -> None:
    assert RedactCallback().filter(_record(message, arguments))
