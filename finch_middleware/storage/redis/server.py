"""One Redis server or cluster: what is asked of it, and what its errors mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from finch_middleware.errors import ConfigurationError, SchemaMismatch, StorageUnavailable
from finch_middleware.storage.redis.plan import COMPARE_AND_WRITE, INDEXES, NOTHING, Plan

T = TypeVar("T")

_PATIENCE_SECONDS = 3

#: Records read in one round trip.
_BATCH = 500

_OPTION = "accept_data_loss"

_SETTINGS = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}

#: What the storage runs, as ``ACL SETUSER`` takes it.
RIGHTS = (
    "+get +mget +set +del +zadd +zrem +zrangebyscore +zrangebylex +evalsha +script|load +config|get"
)

_CLUSTER = "a node of a cluster does not hold our keys: pass RedisStorage(RedisCluster.from_url(…))"

_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.ReadOnlyError, "read_only"),
    (exceptions.OutOfMemoryError, "full"),
    (exceptions.AuthenticationError, "denied"),
    (exceptions.BusyLoadingError, "busy"),
)
#: By the first word of an error that the driver has no class for.
_REASONS_BY_WORD = {
    "BUSY": "busy",
    "MISCONF": "io_error",
    "NOREPLICAS": "unavailable",
    "OOM": "full",
    "READONLY": "read_only",
    "WRONGTYPE": "schema_mismatch",
}


class Server:
    """
    The server or cluster behind one client.

    Every key gets its prefix here, and so all are in one hash slot. Whatever the driver or the
    server's reply raises becomes a `StorageUnavailable`.
    """

    def __init__(self, client: Any, *, prefix: str, trusted: bool) -> None:
        # The client's methods are typed for both its synchronous and its asynchronous use.
        self._client = client
        self._prefix = prefix
        self._rights = f"~{prefix}* {RIGHTS}"
        self._trusted = trusted
        self._tried = False
        self._script = client.register_script(COMPARE_AND_WRITE)

    def check(self) -> None:
        """`Storage.check`: a plan could be carried out now. The first time, one is."""
        self._require_durability()
        try:
            self._rehearse()
            if not self._tried:
                self._try()
                self._tried = True
        except StorageUnavailable as fault:
            if not fault.fix:
                raise
            fix = fault.fix
        else:
            return
        raise SchemaMismatch(fix)

    def settings(self) -> dict[str, str | None]:
        """The settings that matter; None where the server does not show one."""
        return {name: self._ask(partial(self._setting, name)) for name in _SETTINGS}

    def write(self, plan: Plan) -> bool:
        """Whether the plan was carried out, because every value was still as expected."""
        self._require_ready()
        result = self._ask(lambda: self._script(**plan.arguments(self._prefix)))
        match result:
            case 0 | 1:
                return bool(result)
            case [int(place), (bytes() | str()) as error] if 0 < place <= len(plan.commands):
                command, key, *_ = plan.commands[place - 1]
                key = self._prefix + key
                raise _refusal(_text(error), command=command, key=key, rights=self._rights)
        raise StorageUnavailable("unavailable")

    def get(self, key: str) -> str | None:
        """The value of *key*; None where there is none."""
        return self._ask(lambda: _text_or_none(self._client.get(self._prefix + key)))

    def get_each(self, keys: Sequence[str]) -> Iterator[str | None]:
        """The value of each key, read in batches; None where there is none."""
        for start in range(0, len(keys), _BATCH):
            yield from self._ask(partial(self._get_batch, keys[start : start + _BATCH]))

    def members(self, index: str, *, before: int | None = None, limit: int = -1) -> list[str]:
        """The members of that index with a score below *before*: all, or the first *limit*."""
        end = "+inf" if before is None else f"({before}"
        return self._list(self._client.zrangebyscore, index, "-inf", end, limit=limit)

    def behind(self, start: str, *, last: str, index: str, limit: int) -> list[str]:
        """The next members of that index in their order, up to *last*; all have one score."""
        ends = f"({start}", f"[{last}"
        found = self._list(self._client.zrangebylex, index, *ends, limit=limit)
        # A server that repeats itself must not make a scan endless.
        if any(member <= start for member in found):
            raise StorageUnavailable("unavailable")
        return found

    def _list(self, ask: Callable[..., Any], index: str, *ends: str, limit: int) -> list[str]:
        found = partial(ask, self._prefix + index, *ends, start=0, num=limit)
        return self._ask(lambda: [_text(each) for each in found()])

    def _get_batch(self, keys: Sequence[str]) -> list[str | None]:
        values = [
            _text_or_none(each) for each in self._client.mget([self._prefix + key for key in keys])
        ]
        if len(values) != len(keys):
            raise ValueError("not the values of these keys")
        return values

    def _rehearse(self) -> None:
        """Run every command of a plan, on each index, without changing anything."""
        plan = Plan().do("SET", NOTHING, "", "XX").do("DEL", NOTHING)
        for index in INDEXES:
            plan.do("ZADD", index, "XX", "0", "").do("ZREM", index, "")
        self._require_written(plan)

    def _try(self) -> None:
        """Write, read back and remove, with every command that the storage uses."""
        member, value = uuid4().hex, '{"text":"\\u00e9\\ud83d\\udc69"}'
        key = f"trial:{member}"
        plan = Plan().do("SET", key, value, "PX", "60000").do("ZADD", "trial", "0", member)
        self._require_written(plan)
        try:
            values = [self.get(key), *self.get_each([key])]
            scored = self.members("trial")
            listed = self.behind("", last=member, index="trial", limit=-1)
        finally:
            self._require_written(Plan().do("DEL", key).do("ZREM", "trial", member))
        if values != [value, value] or member not in scored or member not in listed:
            raise StorageUnavailable(
                "unavailable", fix="this Redis does not return what was written: check its proxy"
            )

    def _require_written(self, plan: Plan) -> None:
        if not self.write(plan):
            raise StorageUnavailable("busy")

    def _require_ready(self) -> None:
        try:
            return self._require_durability()
        except SchemaMismatch:
            pass
        raise StorageUnavailable("schema_mismatch")

    def _require_durability(self) -> None:
        """Once per process: whether the server keeps what it confirms."""
        if self._trusted:
            return
        for setting, wanted in _SETTINGS.items():
            if self._ask(partial(self._setting, setting)) != wanted:
                raise SchemaMismatch(
                    f"this Redis may lose a committed token: set {setting} {wanted}, "
                    "or accept it with ?accept_data_loss=true in the URL, "
                    "or RedisStorage(..., accept_data_loss=True)"
                )
        self._trusted = True

    def _setting(self, name: str) -> str | None:
        """The setting of the node that holds our keys: each node of a cluster has its own."""
        owner_of = getattr(self._client, "get_node_from_key", None)
        where = {"target_nodes": owner_of(self._prefix + NOTHING)} if owner_of else {}
        try:
            answer = self._client.config_get(name, **where)
        except exceptions.ResponseError:
            # A hosted Redis does not show its settings.
            return None
        return next((_text(value) for value in answer.values()), None)

    def _ask(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except Exception as error:  # a server may reply with anything, and the driver raise it
            fault = _fault(error, rights=self._rights)
        # Not inside the except block: the driver's error may repeat the command.
        raise fault


def open_client(url: str) -> tuple[redis.Redis, bool]:
    """
    A client of our own, and whether ``accept_data_loss`` is on in the URL.

    Raises:
        ConfigurationError: The URL cannot be parsed, or the option is neither true nor false.
    """
    with suppress(ValueError):
        client = redis.Redis.from_url(
            url,
            socket_timeout=_PATIENCE_SECONDS,
            socket_connect_timeout=_PATIENCE_SECONDS,
            # Without a retry: a write may have been carried out although its reply was lost.
            retry=Retry(NoBackoff(), 0),
        )
        accepted = client.connection_pool.connection_kwargs.pop(_OPTION, "false")
        if accepted not in ("true", "false"):
            raise ConfigurationError([f"{_OPTION} in the storage URL must be true or false."])
        return client, accepted == "true"
    # The library's own message contains the URL with its password.
    raise ConfigurationError(
        ["The storage URL cannot be parsed: write redis://user:password@host:6379/0."]
    )


def _text(value: object) -> str:
    """A value's text, which a client may or may not have decoded; ours are ASCII."""
    if isinstance(value, bytes):
        # Other bytes become a text that is no row.
        return value.decode("ascii", "replace")
    if not isinstance(value, str):
        raise TypeError("neither bytes nor text")
    return value


def _text_or_none(value: object) -> str | None:
    return None if value is None else _text(value)


def _fault(error: Exception, *, rights: str) -> StorageUnavailable:
    if isinstance(error, (exceptions.MovedError, exceptions.AskError)):
        return StorageUnavailable("unavailable", fix=_CLUSTER)
    if isinstance(error, exceptions.NoPermissionError):
        fix = f"this Redis user lacks a right: grant it {rights}"
        return StorageUnavailable("denied", fix=fix)
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return StorageUnavailable(reason)
    word = str(error).partition(" ")[0] if isinstance(error, exceptions.ResponseError) else ""
    return StorageUnavailable(_REASONS_BY_WORD.get(word, "unavailable"))


def _refusal(text: str, *, command: str, key: str, rights: str) -> StorageUnavailable:
    """What it means that *command* failed, without an effect yet, on *key*."""
    word = text.lstrip("-").partition(" ")[0]
    if word == "WRONGTYPE":
        fix = f"the key {key} belongs to another application: remove it, or choose another prefix"
        return StorageUnavailable("schema_mismatch", fix=fix)
    if word in _REASONS_BY_WORD:
        return StorageUnavailable(_REASONS_BY_WORD[word])
    fix = f"this Redis does not run {command} for us: grant its user {rights}"
    return StorageUnavailable("denied", fix=fix)
