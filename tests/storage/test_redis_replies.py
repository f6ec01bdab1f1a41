"""A server that replies with anything but Redis: only errors of this library leave the storage."""

from __future__ import annotations

import gc
import random
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from finch_middleware.attempts import Attempt, AttemptState
from finch_middleware.errors import StorageFault, StorageUnavailable
from finch_middleware.records import StoredConnection, StoredToken
from finch_middleware.storage.redis.plan import record_in
from finch_middleware.storage.redis.storage import RedisStorage
from finch_middleware.testing.fake_finch.wire import shut_down
from finch_middleware.testing.sample_records import NOON, a_connection, an_attempt, key_of, sealed
from tests.fuzz.seeds import seeded

REPLIES = {
    "nothing": b"",
    "a page": b"HTTP/1.1 400 Bad Request\r\n\r\n<html>",
    "no type": b"\x00\xff\r\n",
    "no number": b"$five\r\nhello\r\n",
    "a huge number": b":" + b"9" * 5000 + b"\r\n",
    "a negative length": b"*-7\r\n",
    "brackets": b"*1\r\n" * 3000,
    "a map": b"%1\r\n+a\r\n*0\r\n",
    "a number": b":7\r\n",
    "zero": b":0\r\n",
    "null": b"$-1\r\n",
    "OK": b"+OK\r\n",
    "a text": b"$3\r\n{}[\r\n",
    "a list of lists": b"*2\r\n*1\r\n:1\r\n$1\r\na\r\n",
    "nulls": b"*3\r\n$-1\r\n$-1\r\n$-1\r\n",
    "the same member": b"*1\r\n$64\r\n" + b"0" * 64 + b"\r\n",
    "a verdict of no command": b"*2\r\n:99\r\n+ERR no\r\n",
    "an error": b"-WHAT is this\r\n",
    "an error without a word": b"-\r\n",
    "moved to nowhere": b"-MOVED x y\r\n",
}
CALLS: dict[str, Callable[[RedisStorage], object]] = {
    "check": lambda storage: storage.check(),
    "describe": lambda storage: storage.describe(),
    "claim": lambda storage: storage.claim(an_attempt(flow_hash=key_of("flow"))),
    "attempt": lambda storage: storage.attempt(key_of("code")),
    "settle": lambda storage: storage.settle(
        an_attempt(flow_hash=key_of("flow")).settled(AttemptState.STORED, at=NOON), a_connection()
    ),
    "release": lambda storage: storage.release(an_attempt()),
    "unsettled": lambda storage: storage.unsettled(leased_before=NOON),
    "quarantined": lambda storage: storage.quarantined(),
    "get": lambda storage: storage.get("connection"),
    "for_customer": lambda storage: storage.for_customer("acme"),
    "scan": lambda storage: storage.scan(after=None, limit=2),
    "swap": lambda storage: storage.swap(a_connection(), a_connection(status="reauth")),
    "swap_tokens": lambda storage: storage.swap_tokens(
        [(StoredToken.of(a_connection()), sealed("new"))]
    ),
    "delete": lambda storage: storage.delete(a_connection(), at=NOON),
    "forget": lambda storage: storage.forget(settled_before=NOON + timedelta(days=1)),
}


class Rubbish(socketserver.ThreadingTCPServer):
    """
    Sends the next reply to whatever it receives.

    Attributes:
        hangs_up: Whether it does so after each reply, because one may be incomplete.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        self.next_reply: Callable[[], bytes] = bytes
        self.hangs_up = True
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def client(self) -> Redis:
        return Redis(
            port=self.server_address[1],
            socket_timeout=60,
            # Nothing before the first command, and each command once.
            protocol=2,
            driver_info=None,
            retry=Retry(NoBackoff(), 0),
        )


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        server = self.server
        assert isinstance(server, Rubbish)
        with suppress(OSError):
            while self.request.recv(65536):
                self.request.sendall(server.next_reply())
                if server.hangs_up:
                    return


@pytest.fixture
def rubbish() -> Iterator[Rubbish]:
    with Rubbish() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        gc.disable()  # as deep as a nested reply is read, what closes garbage of others would fail
        yield server
        gc.enable()
        shut_down(server)
        thread.join()


def _fault_of(call: Callable[[], object]) -> BaseException | None:
    try:
        call()
    except BaseException as error:
        return error
    return None


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
def test_only_a_storage_fault_leaves_the_storage(rubbish: Rubbish, reply: bytes) -> None:
    rubbish.next_reply = lambda: reply
    with rubbish.client as client:
        for accepted in (True, False):
            storage = RedisStorage(client, accept_data_loss=accepted)
            for name, call in CALLS.items():
                fault = _fault_of(lambda: call(storage))  # noqa: B023  # called at once

                assert fault is None or isinstance(fault, StorageFault), (name, fault)
                assert fault is None or fault.__context__ is None


@pytest.mark.parametrize(
    ("replies", "match"),
    [(b":1 :1 $-1 *1|$-1 *0 *0 :1", "proxy"), (b":0", "busy")],
    ids=["loses what was written", "always has other values"],
)
def test_check_refuses_a_server_that_answers_without_doing_the_work(
    rubbish: Rubbish, replies: bytes, match: str
) -> None:
    each = [reply.replace(b"|", b"\r\n") + b"\r\n" for reply in replies.split()]
    rubbish.next_reply, rubbish.hangs_up = iter(each).__next__, False
    with rubbish.client as client, pytest.raises(StorageFault, match=match):
        RedisStorage(client, accept_data_loss=True).check()


def test_list_without_the_values_that_its_index_names_is_unavailable(rubbish: Rubbish) -> None:
    replies = iter([b"*1\r\n$1\r\na\r\n", b"*0\r\n"])
    rubbish.next_reply, rubbish.hangs_up = replies.__next__, False
    with rubbish.client as client, pytest.raises(StorageUnavailable) as fault:
        RedisStorage(client).quarantined()

    assert fault.value.reason == "unavailable"


def test_server_that_repeats_itself_does_not_make_a_scan_endless(rubbish: Rubbish) -> None:
    member = b"*1\r\n$1\r\na\r\n"
    replies = iter([member, b"*1\r\n$-1\r\n", member])
    rubbish.next_reply, rubbish.hangs_up = replies.__next__, False
    with rubbish.client as client, pytest.raises(StorageUnavailable) as fault:
        list(RedisStorage(client).connections())

    assert fault.value.reason == "unavailable"
    assert list(replies) == []


@pytest.mark.full
def test_only_a_storage_fault_leaves_the_storage_whatever_is_sent(rubbish: Rubbish) -> None:
    numbers = seeded()
    with rubbish.client as client:
        rubbish.next_reply = lambda: _mixed(numbers)
        storage = RedisStorage(client, accept_data_loss=True)
        for _ in range(100):
            for name, call in CALLS.items():
                fault = _fault_of(lambda: call(storage))  # noqa: B023  # called at once

                assert fault is None or isinstance(fault, StorageFault), (name, fault)


def _mixed(numbers: random.Random) -> bytes:
    parts = [numbers.choice(list(REPLIES.values())) for _ in range(numbers.randint(1, 3))]
    reply = bytearray(b"".join(parts))
    for _ in range(numbers.randint(0, 3)):
        if reply:
            reply[numbers.randrange(len(reply))] = numbers.randrange(256)
    return bytes(reply)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "5",
        "[]",
        "[" * 100_000,
        '{"code_hash":{"bytes":"é"}}',
        '{"obtained_at":{"at":"0001-01-01T00:00:00+14:00"}}',
        "\x00",
        "9" * 5000,
    ],
    ids=["nothing", "number", "list", "brackets", "bytes", "instant", "nul", "long number"],
)
def test_value_that_is_no_record_is_unreadable(value: str) -> None:
    for kind in (Attempt, StoredConnection):
        with pytest.raises(StorageUnavailable) as fault:
            record_in(kind, value)

        assert fault.value.reason == "unreadable"
        assert fault.value.__context__ is None
