"""Examples as a browser finds them: in a process of their own, with and without TLS."""

from __future__ import annotations

import os
import select
import socket
import ssl
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from finch_middleware.testing.fake_finch import FakeFinch
from tests.processes import ROOT, free_port, listening

EXAMPLES = ROOT / "examples"

#: The arguments of python, in the folder of examples.
COMMANDS: dict[str, Sequence[str]] = {
    "flask_app": ["flask_app.py"],
    "django_project": ["django_project/manage.py", "runserver", "--noreload"],
    "embedded": ["embedded/app.py"],
    "fastapi_app": ["fastapi_app.py"],
}

_IDLE_SECONDS = 60


@contextmanager
def tls_in_front(port: int, *, tls: tuple[Path, Path]) -> Iterator[int]:
    """The port of a TLS-terminating proxy, which hands all bytes on to *port* as they are."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepting = threading.Thread(target=_accept, args=(listening, context, port), daemon=True)
        accepting.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join()


def _accept(listening: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with suppress(OSError):  # the listening socket was shut down: the end
        while True:
            client, _ = listening.accept()
            threading.Thread(target=_proxied, args=(client, context, port), daemon=True).start()


def _proxied(client: socket.socket, context: ssl.SSLContext, port: int) -> None:
    # Browsers open connections that they never use, and drop some in the handshake.
    with suppress(OSError), client:
        client.settimeout(_IDLE_SECONDS)
        with (
            context.wrap_socket(client, server_side=True) as near,
            socket.create_connection(("127.0.0.1", port), timeout=_IDLE_SECONDS) as far,
        ):
            _relay(near, far)


def _relay(near: ssl.SSLSocket, far: socket.socket) -> None:
    """All bytes both ways, until one side ends. In one thread: TLS objects are not for two."""
    while True:
        waiting = near.pending() > 0
        ready = [near] if waiting else select.select([near, far], [], [], _IDLE_SECONDS)[0]
        if not ready:
            return
        for source in ready:
            data = _received(source)
            if data == b"":
                return
            (far if source is near else near).sendall(data or b"")


def _received(source: socket.socket) -> bytes | None:
    """What has come; empty at the end, None where it was nothing but TLS's own talk."""
    source.settimeout(0)
    try:
        return source.recv(65_536)
    except ssl.SSLWantReadError:
        return None
    finally:
        source.settimeout(_IDLE_SECONDS)


@contextmanager
def example(
    name: str,
    fake: FakeFinch,
    *,
    tls: tuple[Path, Path] | None = None,
    **environ: str,
) -> Iterator[str]:
    """The address of an example that runs in a process of its own, over TLS where it is given."""
    port = free_port()
    if tls is None:
        with _process(name, fake, port=port, environ=environ):
            yield f"http://localhost:{port}"
        return
    with tls_in_front(port, tls=tls) as front:
        address = f"https://localhost:{front}"
        more = {
            "FINCH_REDIRECT_URI": f"{address}/finch/callback",
            "DJANGO_SETTINGS_MODULE": "tests.browser.django_settings",
            "ADDRESS": address,
            **environ,
        }
        with _process(name, fake, port=port, environ=more):
            yield address


@contextmanager
def _process(
    name: str, fake: FakeFinch, *, port: int, environ: Mapping[str, str]
) -> Iterator[None]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FINCH_")}
    paths = os.pathsep.join([str(EXAMPLES), str(ROOT)])
    ours = {"PORT": str(port), "FINCH_API_URL": fake.api_url, "PYTHONPATH": paths}
    command = [sys.executable, *COMMANDS[name]]
    with listening(command, port=port, cwd=EXAMPLES, env={**kept, **ours, **environ}):
        yield
