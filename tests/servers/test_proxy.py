"""Behind a real nginx that ends TLS, under a prefix, with the lines of the manual."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from tests.odd_server import authority
from tests.processes import answers, end_with_parent, free_port
from tests.required import absent
from tests.servers.application import BEGIN, CALLBACK
from tests.servers.running import PREFIX, Reached, running
from tests.site import NAVIGATION, SAME_ORIGIN_FETCH, Answer, Browser

MANUAL = Path(__file__).parents[2] / "docs" / "deployment.md"
_MAIN = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {server}
}}
"""


def manual(*, port: int, upstream: str, folder: Path) -> str:
    """The manual's lines for nginx, with this test's ports and files."""
    found = re.search(r"```nginx\n(.*?)```", MANUAL.read_text(), re.DOTALL)
    assert found is not None
    file = str(authority().certificate("localhost"))
    own = {
        "listen 443": f"listen 127.0.0.1:{port}",
        "/etc/ssl/app.pem": file,
        "/etc/ssl/app.key": file,
        "/var/log/nginx": str(folder),
        "http://127.0.0.1:8000": upstream,
    }
    lines = found[1]
    for theirs, ours in own.items():
        assert lines.count(theirs) == 1
        lines = lines.replace(theirs, ours)
    return lines


def tls_line(host: str) -> HTTPSConnection:
    """A connection to this machine that accepts any certificate."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    return HTTPSConnection(host.replace("localhost", "127.0.0.1"), context=trusting, timeout=60)


class TlsBrowser(Browser):
    """A browser that comes over TLS, and trusts whom it finds."""

    def request(
        self,
        method: str,
        address: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> Answer:
        host, _, path = address.removeprefix("https://").partition("/")
        host = host if address.startswith("https://") else self.site.origin.split("//")[1]
        line = tls_line(host)
        sent = {"Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items()), **(headers or {})}
        try:
            line.request(method, f"/{path}", body=body, headers=sent)
            response = line.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        finally:
            line.close()
        self._keep(answer)
        return answer


@pytest.fixture(params=["by gunicorn", "by nginx"])
def folder_and_site(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Path, Reached]]:
    """The proxy's folder, and the application as browsers reach it: who strips the prefix?"""
    if shutil.which("nginx") is None:
        absent("servers", "nginx is not installed; apt-get install nginx")
    port = free_port()
    outside = f"https://localhost:{port}"
    stripping = request.param == "by nginx"
    server_name = "gunicorn-gthread" if stripping else "gunicorn-script-name"
    with running(server_name, origin=outside, path=PREFIX + CALLBACK) as behind:
        upstream = behind.origin.replace("localhost", "127.0.0.1") + ("/" if stripping else "")
        server = manual(port=port, upstream=upstream, folder=tmp_path)
        user = "user root;" if os.geteuid() == 0 else ""
        written = _MAIN.format(folder=tmp_path, server=server, user=user)
        (tmp_path / "nginx.conf").write_text(written)
        command = ["nginx", "-p", str(tmp_path), "-c", "nginx.conf"]
        with subprocess.Popen(
            command, stderr=subprocess.DEVNULL, preexec_fn=end_with_parent
        ) as nginx:
            try:
                assert answers(port, nginx), (tmp_path / "error.log").read_text()
                yield tmp_path, Reached(outside, behind.fake)
            finally:
                nginx.terminate()


def test_both_flows_work_behind_the_manuals_proxy(folder_and_site: tuple[Path, Reached]) -> None:
    folder, site = folder_and_site
    browser = TlsBrowser(site)  # type: ignore[arg-type]  # all that it needs of a site
    pressed = {**NAVIGATION, "Sec-Fetch-Site": "same-origin"}

    opened = browser.request("POST", PREFIX + BEGIN, headers=pressed, body=b"")
    names = list(browser.cookies)
    callback = site.fake.allow(opened.location)
    returned = browser.get(callback)
    embedded = browser.request("POST", PREFIX + BEGIN, headers=SAME_ORIGIN_FETCH, body=b"").json
    handed = site.fake.allow_embedded(embedded["session_id"], state=embedded["state"])
    # Chunked, which the server behind would refuse: nginx gives the body a length.
    form = "&".join(f"{name}={value}" for name, value in handed.items()).encode()
    headers = {**SAME_ORIGIN_FETCH, "Content-Type": "application/x-www-form-urlencoded"}
    finished = browser.request("POST", PREFIX + CALLBACK, headers=headers, body=iter([form]))

    assert callback.startswith(f"{site.origin}{PREFIX}{CALLBACK}?code=")
    assert returned.location.startswith("/?finch=connected")
    assert [name.startswith("__Host-finch-") for name in names] == [True]
    assert finished.json["outcome"] == "connected"
    assert site.fake.ledger.calls("token") == 2
    logged = (folder / "app.log").read_text()
    assert f'"GET {PREFIX}{CALLBACK}" 303' in logged
    assert not [issued for issued in site.fake.ledger.codes if issued.code in logged]


def test_t42_half_bodies_with_a_ticket_wait_at_the_manuals_proxy(
    folder_and_site: tuple[Path, Reached],
) -> None:
    _, site = folder_and_site
    browser = TlsBrowser(site)  # type: ignore[arg-type]  # all that it needs of a site
    browser.request("POST", PREFIX + BEGIN, headers=SAME_ORIGIN_FETCH, body=b"")
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    head = {**SAME_ORIGIN_FETCH, "Cookie": cookies, "Content-Length": "400"}

    with ExitStack() as stack:
        # The server behind has four threads, and would wait an hour for each of these.
        for _ in range(12):
            line = stack.enter_context(closing(tls_line(site.origin.split("//")[1])))
            line.request("POST", PREFIX + CALLBACK, body=b'{"code": "', headers=head)
        page = browser.get(f"{PREFIX}/")

    assert page.status == 200
