from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

from finch_middleware import FinchConnect, FinchMiddleware
from finch_middleware.cli.demo_app import EMPLOYERS, DemoApp
from finch_middleware.cli.demo_processes import CALLBACK_PATH
from finch_middleware.cli.demo_tour import Scene
from finch_middleware.cli.demo_traces import Traces
from finch_middleware.crypto.keys import new_key
from finch_middleware.testing.fake_finch import FakeFinch

KEY = new_key("k1")


class _Silent(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _own_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the demo leaves for a person to look at goes with the test."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The demo's application over HTTP, beside the `fake`, and the scene of a tour on both."""

    address: str
    scene: Scene
    log: Path
    database: Path


@pytest.fixture
def stage(fake: FakeFinch, tmp_path: Path) -> Iterator[Stage]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        address, database = f"http://localhost:{port}", tmp_path / "finch.db"
        finch = FinchConnect(
            client_id=fake.client_id,
            client_secret=fake.client_secret,
            redirect_uri=address + CALLBACK_PATH,
            products=["company", "directory"],
            storage=f"sqlite:///{database}",
            key=KEY,
            api_url=fake.api_url,
            connect_origin=fake.connect_origin,
        )
        finch.storage.check()
        app = FinchMiddleware(DemoApp(finch, notice="A <test>."), finch)
        server = make_server(
            "127.0.0.1", port, app, threaded=True, request_handler=_Silent, fd=listening.fileno()
        )
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    log = tmp_path / "application.log"
    log.write_text("nothing yet\n")
    yield Stage(
        address=address,
        scene=Scene(
            application=address,
            finch=fake.api_url,
            connections=finch.connections,
            traces=Traces(
                finch.storage,
                url=f"sqlite:///{database}",
                client_id=fake.client_id,
                customers=list(EMPLOYERS),
                log=log,
            ),
            secrets={"the encryption key": KEY.partition(":")[2]},
        ),
        log=log,
        database=database,
    )
    server.shutdown()
    thread.join()
    server.server_close()
