"""What the fake Finch answers, or does to a connection, when it is told to behave oddly."""

from __future__ import annotations

import gzip
import json
import socket
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import requests

from finch_middleware.testing.fake_finch import Behaviour, FakeFinch


@pytest.fixture
def fake() -> Iterator[FakeFinch]:
    with FakeFinch() as fake:
        yield fake


def body_of(fake: FakeFinch, code: str) -> dict[str, str]:
    return {"client_id": fake.client_id, "client_secret": fake.client_secret, "code": code}


def present(fake: FakeFinch, code: str, *, http: Any = requests, **options: Any) -> Any:
    return http.post(
        fake.api_url + "/auth/token",
        json=body_of(fake, code),
        headers={"Finch-API-Version": "2020-09-17"},
        timeout=5,
        **options,
    )


def send(fake: FakeFinch, code: str) -> socket.socket:
    """A socket on which a whole exchange was asked for, and nothing read yet."""
    body = json.dumps(body_of(fake, code))
    head = (
        "POST /auth/token HTTP/1.1\r\nHost: x\r\nFinch-API-Version: 2020-09-17\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", port_of(fake)), timeout=5)
    connection.sendall((head + body).encode())
    return connection


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def port_of(fake: FakeFinch) -> int:
    return int(fake.api_url.rsplit(":", 1)[1])


class TestScripts:
    def test_a_script_is_played_in_its_order_and_then_it_is_over(self, fake: FakeFinch) -> None:
        fake.script("token", Behaviour.error(429), Behaviour.error(500), times=2)

        statuses = [present(fake, fake.issue_code(customer_id="a")).status_code for _ in range(5)]

        assert statuses == [429, 429, 500, 500, 200]

    def test_a_script_for_ever_ends_when_it_is_taken_back(self, fake: FakeFinch) -> None:
        fake.script("token", Behaviour.error(503), times=None)
        during = [present(fake, "c").status_code for _ in range(3)]

        fake.unscript("token")

        assert during == [503] * 3
        assert present(fake, "c").status_code == 400

    def test_every_script_can_be_taken_back_at_once(self, fake: FakeFinch) -> None:
        fake.script("token", Behaviour.error(503), times=None)
        fake.script("introspect", Behaviour.error(503), times=None)

        fake.unscript()

        assert present(fake, "c").status_code == 400
        assert requests.get(fake.api_url + "/introspect", timeout=5).status_code == 400

    @pytest.mark.parametrize(("endpoint", "times"), [("tokens", 1), ("token", 0)])
    def test_a_script_that_could_never_play_is_refused(
        self, fake: FakeFinch, endpoint: str, times: int
    ) -> None:
        with pytest.raises(ValueError, match=r"endpoint|times"):
            fake.script(endpoint, Behaviour.normal(), times=times)

    def test_other_endpoints_stay_as_they_are(self, fake: FakeFinch) -> None:
        fake.script("introspect", Behaviour.error(500), times=None)

        assert present(fake, fake.issue_code(customer_id="a")).status_code == 200


class TestAnswers:
    @pytest.mark.parametrize("processed", [False, True])
    def test_an_error_has_finchs_form_and_mints_only_if_told(
        self, fake: FakeFinch, processed: bool
    ) -> None:
        code = fake.issue_code(customer_id="a")
        behaviour = Behaviour.error(429, headers={"Retry-After": "7"}, processed=processed)
        fake.script("token", behaviour)

        answer = present(fake, code)

        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
        assert answer.json()["name"] == "rate_limit_exceeded_error"
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

        answer = present(fake, "unknown")

        assert (answer.status_code, "access_token" in answer.json()) == (400, False)

    def test_a_redirect_names_its_target(self, fake: FakeFinch) -> None:
        fake.script("token", Behaviour.redirect("http://127.0.0.1:1/x", status=308))

        answer = present(fake, "c", allow_redirects=False)

        assert (answer.status_code, answer.headers["Location"]) == (308, "http://127.0.0.1:1/x")

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

        answer = present(fake, "c")

        assert (answer.status_code, answer.headers["Content-Type"]) == (200, content_type)
        assert answer.content.startswith(start)
        assert len(answer.content) == int(answer.headers["Content-Length"])

    @pytest.mark.parametrize("declared", [True, False])
    def test_a_huge_body_is_never_in_memory(self, fake: FakeFinch, declared: bool) -> None:
        size = 32 * 1024 * 1024 + 5
        fake.script("token", Behaviour.huge(size, declared=declared))
        tracemalloc.start()

        answer = present(fake, "c", stream=True)
        received = sum(len(block) for block in answer.iter_content(65_536))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

        assert received == size
        assert ("Content-Length" in answer.headers) == declared
        assert peak < 4 * 1024 * 1024

    def test_a_compressed_answer_may_be_a_bomb(self, fake: FakeFinch) -> None:
        fake.script("token", Behaviour.gzipped(padding_bytes=5_000_000))

        answer = present(fake, fake.issue_code(customer_id="a"), stream=True)

        packed = answer.raw.read(decode_content=False)
        assert answer.headers["Content-Encoding"] == "gzip"
        assert len(packed) < 10_000
        assert len(gzip.decompress(packed)) > 5_000_000


class TestWaits:
    def test_a_delayed_answer_is_late_and_otherwise_normal(self, fake: FakeFinch) -> None:
        fake.script("token", Behaviour.error(402).after(0.2))
        began = time.monotonic()

        answer = present(fake, "c")

        assert time.monotonic() - began >= 0.2
        assert answer.status_code == 402

    @pytest.mark.parametrize("kind", ["event", "file"])
    def test_a_held_request_is_recorded_and_acted_on_once_released(
        self, fake: FakeFinch, kind: str, tmp_path: Path
    ) -> None:
        event, file = Event(), tmp_path / "go"
        release: Callable[[], object] = event.set if kind == "event" else file.touch
        code = fake.issue_code(customer_id="a")
        fake.script("token", Behaviour.hold(event if kind == "event" else file))

        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(present, fake, code)
            fake.ledger.wait_for_calls("token")
            time.sleep(0.05)
            minted_while_held = fake.ledger.minted(code)
            release()

        assert answer.result().status_code == 200
        assert minted_while_held == ()
        assert len(fake.ledger.minted(code)) == 1

    def test_waiting_for_a_call_that_never_comes_ends(self, fake: FakeFinch) -> None:
        with pytest.raises(TimeoutError, match="0 of 1"):
            fake.ledger.wait_for_calls("token", timeout_seconds=0.01)

    @pytest.mark.parametrize(
        ("behaviour", "at_first"),
        [
            # Less than the status line: a busy reader may find several drops at once.
            (Behaviour.drip_headers(pace_seconds=0.002), range(1, 15)),
            (Behaviour.drip_body(pace_seconds=0.002), range(60, 61)),
        ],
        ids=["headers", "body"],
    )
    def test_a_drip_is_slow_and_complete(
        self, fake: FakeFinch, behaviour: Behaviour, at_first: range
    ) -> None:
        fake.script("token", behaviour)
        began = time.monotonic()

        with send(fake, fake.issue_code(customer_id="a")) as connection:
            first = connection.recv(60)
            connection.shutdown(socket.SHUT_WR)
            answer = first + read_all(connection)

        head, _, body = answer.partition(b"\r\n\r\n")
        assert len(first) in at_first
        assert time.monotonic() - began > 0.002 * min(len(head), len(body))
        assert json.loads(body)["access_token"] == fake.ledger.tokens[0]


class TestBrokenConnections:
    @pytest.mark.parametrize("processed", [False, True])
    @pytest.mark.parametrize("after_bytes", [0, 40])
    def test_a_reset_comes_after_so_many_bytes(
        self, fake: FakeFinch, processed: bool, after_bytes: int
    ) -> None:
        code = fake.issue_code(customer_id="a")
        fake.script(
            "token", Behaviour.reset(after_bytes=after_bytes, processed=processed).after(0.1)
        )

        with send(fake, code) as connection, pytest.raises(ConnectionResetError):
            read_all(connection)

        assert fake.ledger.presented(code) == 1
        assert len(fake.ledger.minted(code)) == processed

    @pytest.mark.parametrize("after_bytes", [0, 1, 200])
    def test_a_close_comes_after_so_many_bytes(self, fake: FakeFinch, after_bytes: int) -> None:
        fake.script("token", Behaviour.close(after_bytes=after_bytes, processed=True))

        with send(fake, fake.issue_code(customer_id="a")) as connection:
            answer = read_all(connection)

        assert len(answer) == after_bytes

    def test_a_stall_sends_its_bytes_and_then_nothing(self, fake: FakeFinch) -> None:
        fake.script("token", Behaviour.stall(after_bytes=9))

        with send(fake, "c") as connection:
            connection.settimeout(0.2)
            first = connection.recv(100)
            with pytest.raises(TimeoutError):
                connection.recv(1)

        assert first == b"HTTP/1.1 "

    def test_hanging_up_follows_a_whole_answer(self, fake: FakeFinch) -> None:
        fake.script("token", Behaviour.hang_up())

        with send(fake, fake.issue_code(customer_id="a")) as connection:
            head, _, body = read_all(connection).partition(b"\r\n\r\n")

        assert b"Connection: keep-alive" in head
        assert json.loads(body)["access_token"] == fake.ledger.tokens[0]
