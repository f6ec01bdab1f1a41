"""The scripted behaviours of the fake Finch: its responses, and what happens to connections."""

from __future__ import annotations

import gzip
import json
import socket
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from finch_middleware.testing.fake_finch import Behaviour, FakeFinch
from tests.testing.asking_fake import get, present, read_all, send
from tests.waiting import wait_until


class TestScripts:
    def test_a_script_is_used_once_in_its_order(self, fake: FakeFinch) -> None:
        fake.script("token", Behaviour.error(429), Behaviour.error(500), times=2)

        statuses = [present(fake, fake.issue_code(customer_id="a")).status_code for _ in range(5)]

        assert statuses == [429, 429, 500, 500, 200]

    @pytest.mark.parametrize("endpoint", ["token", None])
    def test_a_script_without_limit_is_used_until_it_is_removed(
        self, fake: FakeFinch, endpoint: str | None
    ) -> None:
        fake.script("token", Behaviour.error(503), times=None)
        fake.script("introspect", Behaviour.error(504), times=None)
        during = [present(fake, "c").status_code for _ in range(3)]

        fake.unscript(endpoint)

        other = get(fake.api_url + "/introspect").status_code
        assert during == [503] * 3
        assert (present(fake, "c").status_code, other) == (400, 504 if endpoint else 400)

    @pytest.mark.parametrize(("endpoint", "times"), [("tokens", 1), ("token", 0)])
    def test_a_script_that_could_never_be_used_is_refused(
        self, fake: FakeFinch, endpoint: str, times: int
    ) -> None:
        with pytest.raises(ValueError, match=r"endpoint|times"):
            fake.script(endpoint, Behaviour(), times=times)


class TestResponses:
    @pytest.mark.parametrize("processed", [False, True])
    def test_an_error_has_finchs_form_and_mints_only_if_processed(
        self, fake: FakeFinch, processed: bool
    ) -> None:
        code = fake.issue_code(customer_id="a")
        behaviour = Behaviour.error(429, headers={"Retry-After": "7"}, processed=processed)
        fake.script("token", behaviour)

        response = present(fake, code)

        assert (response.status_code, response.headers["Retry-After"]) == (429, "7")
        assert response.json()["name"] == "rate_limit_exceeded_error"
        assert fake.ledger.presented(code) == 1
        assert len(fake.ledger.minted(code)) == processed

    def test_fields_of_a_success_are_changed_or_left_out(self, fake: FakeFinch) -> None:
        fake.script(
            "token", Behaviour.alter(customer_id=42, new="x"), Behaviour.without("products")
        )

        altered, short = (present(fake, fake.issue_code(customer_id="a")).json() for _ in range(2))

        assert (altered["customer_id"], altered["new"]) == (42, "x")
        assert altered["access_token"] == fake.ledger.tokens[0]
        assert "products" in altered
        assert "products" not in short

    def test_a_refusal_is_not_changed_into_a_success(self, fake: FakeFinch) -> None:
        fake.script("token", Behaviour.alter(access_token="t"))

        response = present(fake, "unknown")

        assert (response.status_code, "access_token" in response.json()) == (400, False)

    def test_a_redirect_names_its_target(self, fake: FakeFinch) -> None:
        fake.script("token", Behaviour.redirect("http://127.0.0.1:1/x", status=308))

        response = present(fake, "c", allow_redirects=False)

        assert (response.status_code, response.headers["Location"]) == (308, "http://127.0.0.1:1/x")

    @pytest.mark.parametrize(
        ("kind", "content_type", "start"),
        [
            ("html", "text/html", b"<!doctype html>"),
            ("text", "text/plain", b"OK"),
            ("empty", "application/json", b""),
            ("array", "application/json", b"[{"),
            ("number", "application/json", b"42"),
            ("deep", "application/json", b"[" * 60_000),
            ("duplicate", "application/json", b'{"access_token": "first", "access_token"'),
            ("infinite", "application/json", b'{"access_token": 1e400'),
        ],
    )
    def test_garbage_comes_with_200(
        self, fake: FakeFinch, kind: Any, content_type: str, start: bytes
    ) -> None:
        fake.script("token", Behaviour.garbage(kind))

        response = present(fake, "c")

        assert (response.status_code, response.headers["Content-Type"]) == (200, content_type)
        assert response.content.startswith(start)
        assert len(response.content) == int(response.headers["Content-Length"])

    @pytest.mark.parametrize("declared", [True, False])
    def test_a_huge_body_is_never_in_memory(self, fake: FakeFinch, declared: bool) -> None:
        size = 32 * 1024 * 1024 + 5
        fake.script("token", Behaviour.huge(size, declared=declared))
        tracemalloc.start()

        response = present(fake, "c", stream=True)
        received = sum(len(block) for block in response.iter_content(65_536))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

        assert received == size
        assert ("Content-Length" in response.headers) == declared
        assert peak < 4 * 1024 * 1024

    def test_a_compressed_response_may_be_a_bomb(self, fake: FakeFinch) -> None:
        fake.script("token", Behaviour.gzipped(padding_bytes=5_000_000))

        response = present(fake, fake.issue_code(customer_id="a"), stream=True)

        packed = response.raw.read(decode_content=False)
        assert response.headers["Content-Encoding"] == "gzip"
        assert len(packed) < 10_000
        assert len(gzip.decompress(packed)) > 5_000_000


class TestWaits:
    def test_a_delayed_response_is_late_and_otherwise_normal(self, fake: FakeFinch) -> None:
        fake.script("token", Behaviour.error(402).after(0.2))
        began = time.monotonic()

        response = present(fake, "c")

        assert time.monotonic() - began >= 0.2
        assert response.status_code == 402

    @pytest.mark.parametrize("kind", ["event", "file"])
    def test_a_held_request_is_recorded_and_acted_on_once_released(
        self, fake: FakeFinch, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looks: list[Behaviour] = []
        released = Behaviour.released.fget
        assert released is not None

        def noted(behaviour: Behaviour) -> bool:
            looks.append(behaviour)
            return bool(released(behaviour))

        monkeypatch.setattr(Behaviour, "released", property(noted))
        event, file = Event(), tmp_path / "go"
        release: Callable[[], object] = event.set if kind == "event" else file.touch
        code = fake.issue_code(customer_id="a")
        fake.script("token", Behaviour.hold(event if kind == "event" else file))

        with ThreadPoolExecutor(1) as pool:
            response = pool.submit(present, fake, code)
            fake.ledger.wait_for_calls("token")
            wait_until(lambda: len(looks) > 1)
            minted_while_held = fake.ledger.minted(code)
            release()

        assert response.result().status_code == 200
        assert minted_while_held == ()
        assert len(fake.ledger.minted(code)) == 1

    def test_waiting_for_a_call_that_never_comes_ends(self, fake: FakeFinch) -> None:
        with pytest.raises(TimeoutError, match="0 of 1"):
            fake.ledger.wait_for_calls("token", timeout_seconds=0.01)

    @pytest.mark.parametrize("part", ["headers", "body"])
    def test_a_drip_is_slow_and_complete(self, fake: FakeFinch, part: str) -> None:
        drip = Behaviour.drip_headers if part == "headers" else Behaviour.drip_body
        fake.script("token", drip(pace_seconds=0.001))
        began, response = time.monotonic(), b""

        with send(fake, fake.issue_code(customer_id="a")) as connection:
            while b"\r\n\r\n" not in response:
                response += connection.recv(1)
            took = {"headers": time.monotonic() - began}
            connection.shutdown(socket.SHUT_WR)
            body = read_all(connection)
            took["body"] = time.monotonic() - began

        assert took[part] > 0.001 * len({"headers": response, "body": body}[part])
        assert json.loads(body)["access_token"] == fake.ledger.tokens[0]


class TestBrokenConnections:
    @pytest.mark.parametrize("processed", [False, True])
    @pytest.mark.parametrize("after_bytes", [0, 40])
    def test_a_reset_comes_after_so_many_bytes(
        self, fake: FakeFinch, processed: bool, after_bytes: int
    ) -> None:
        code = fake.issue_code(customer_id="a")
        fake.script("token", Behaviour.reset(after_bytes=after_bytes, processed=processed))

        with send(fake, code) as connection, pytest.raises(ConnectionResetError):
            read_all(connection)

        assert fake.ledger.presented(code) == 1
        assert len(fake.ledger.minted(code)) == processed

    @pytest.mark.parametrize("after_bytes", [0, 1, 200])
    def test_a_close_comes_after_so_many_bytes(self, fake: FakeFinch, after_bytes: int) -> None:
        fake.script("token", Behaviour.close(after_bytes=after_bytes, processed=True))

        with send(fake, fake.issue_code(customer_id="a")) as connection:
            response = read_all(connection)

        assert len(response) == after_bytes

    def test_a_stall_sends_its_bytes_and_then_nothing(self, fake: FakeFinch) -> None:
        fake.script("token", Behaviour.stall(after_bytes=9))

        with send(fake, "c") as connection:
            first = connection.recv(100)
            connection.settimeout(0.1)
            with pytest.raises(TimeoutError):
                connection.recv(1)

        assert first == b"HTTP/1.1 "

    def test_hanging_up_follows_a_whole_response(self, fake: FakeFinch) -> None:
        fake.script("token", Behaviour.hang_up())

        with send(fake, fake.issue_code(customer_id="a")) as connection:
            head, _, body = read_all(connection).partition(b"\r\n\r\n")

        assert b"Connection: keep-alive" in head
        assert json.loads(body)["access_token"] == fake.ledger.tokens[0]
