"""Whole callbacks: one at a time, over TLS, from afar, on threads, and in four processes."""

from __future__ import annotations

import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import certifi

from benchmarks import databases, token_server
from benchmarks.certificates import write_chain
from benchmarks.growth import InSQL
from benchmarks.peers import PEERS, Authlib, ByHand, Limit, Ours, Subject
from benchmarks.ratios import Line, fastest, line, measured, seconds
from benchmarks.token_server import TokenServer

_ROUND_TRIP_SECONDS = 0.05


@contextmanager
def _servers(**how: Any) -> Iterator[tuple[TokenServer, Path]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if how.pop("tls", False):
            certificate, root = write_chain(folder)
            # As in production: everything that certifi trusts, and this server.
            bundle = folder / "trusted.pem"
            bundle.write_text(Path(certifi.where()).read_text() + root.read_text())
            how |= {"certificate": certificate, "ca_file": bundle}
        yield stack.enter_context(token_server.running(**how)), folder


def _made(kind: type[Subject], server: TokenServer, folder: Path) -> Subject:
    return kind(server, f"sqlite:///{folder}/{kind.__name__}.db")


def alone(what: str, *, rounds: int = 9, times: int = 40, **how: Any) -> list[Line]:
    """
    One callback at a time, against the limit and the fastest peer.

    Many in a round: the first after another subject takes up to twice as long, with that one's
    code in the processor's caches, and the peers have much of theirs in common.
    """
    with _servers(**how) as (server, folder):
        kinds = (Ours, Limit, *PEERS) if rounds > 5 else (Ours, Limit, ByHand, Authlib)
        subjects = [_made(kind, server, folder) for kind in kinds]
        waiting = {each.name: _prepared(each, rounds * times) for each in subjects}
        costs = {each.name: _one(each, waiting[each.name], times) for each in subjects}
        found = measured(costs, rounds=rounds)
        for each in subjects:
            assert each.stored() == rounds * times, (each.name, each.stored())
    return _lines(what, found)


_numbers = itertools.count()


def _prepared(subject: Subject, count: int) -> list[dict[str, Any]]:
    return [subject.prepared(f"customer-{next(_numbers)}") for _ in range(count)]


def _one(subject: Subject, waiting: list[Any], times: int) -> Callable[[], float]:
    return lambda: seconds(lambda: subject.finish(waiting.pop()), times=times)


def _lines(what: str, found: dict[str, list[float]], *, better: str = "less") -> list[Line]:
    peer = fastest(found, but={Ours.name, Limit.name}, better=better)
    return [
        line(what, found[Ours.name], found[other], against=against, better=better)
        for other, against in ((Limit.name, "the limit by hand"), (peer, f"{peer}, the fastest"))
        if other in found
    ]


def threaded(*, threads: int, rounds: int = 5, times: int = 30, **how: Any) -> list[Line]:
    """
    Many threads of one process at once: the rate, and the 95th percentile of one callback.

    Each thread finishes many: the first one opens a connection, which must be rarer than one in
    twenty where connections are kept, or the percentile is that of opening it.
    """
    rates: dict[str, list[float]] = {}
    slow: dict[str, list[float]] = {}
    with _servers(**how) as (server, folder), ThreadPoolExecutor(threads) as pool:
        subjects = [_made(kind, server, folder) for kind in (Ours, Limit, *PEERS)]
        for _ in range(rounds):
            for each in subjects:
                rate, p95 = _burst(each, pool, _prepared(each, threads * times))
                rates.setdefault(each.name, []).append(rate)
                slow.setdefault(each.name, []).append(p95)
        wanted = rounds * threads * times
        lost = {each.name: wanted - each.stored() for each in subjects}
        assert not lost[Ours.name], lost
    name = f"{threads} threads{' over TLS' if how.get('tls') else ''}"
    # A peer that loses tokens is no measure.
    failed = {peer for peer, count in lost.items() if count}
    peer = fastest(rates, but={Ours.name, Limit.name} | failed, better="more")
    return [
        *_lines(
            f"{name}: rate", {k: v for k, v in rates.items() if k not in failed}, better="more"
        ),
        line(f"{name}: p95", slow[Ours.name], slow[peer], against=f"{peer}, the fastest"),
    ]


def _burst(subject: Subject, pool: ThreadPoolExecutor, waiting: list[Any]) -> tuple[float, float]:
    def timed(environ: dict[str, Any]) -> float:
        return seconds(lambda: _finish_or_fail(subject, environ))

    began = time.perf_counter()
    costs = sorted(pool.map(timed, waiting))
    return len(costs) / (time.perf_counter() - began), costs[int(len(costs) * 0.95)]


def _finish_or_fail(subject: Subject, environ: dict[str, Any]) -> None:
    # Where SQLite is busy, some peers answer 500; the rows are counted afterwards.
    with suppress(AssertionError):
        subject.finish(environ)


def afar(*, burst: int = 8, rounds: int = 5) -> list[Line]:
    """With a round trip of 50 ms over TLS: a burst on kept connections."""
    found: dict[str, list[float]] = {}
    with (
        _servers(tls=True, round_trip=_ROUND_TRIP_SECONDS) as (server, folder),
        ThreadPoolExecutor(burst) as pool,
    ):
        subjects = [_made(kind, server, folder) for kind in (Ours, Limit, ByHand, Authlib)]
        for _ in range(rounds):
            for each in subjects:
                rate, _ = _burst(each, pool, _prepared(each, burst * 4))
                found.setdefault(each.name, []).append(1 / rate)
        for each in subjects:
            assert each.stored() == rounds * burst * 4, (each.name, each.stored())
    return _lines("TLS, round trip of 50 ms, 8 at once", found)


def beside_attempts(kind: str, *, rows: int, rounds: int = 9, times: int = 10) -> list[Line]:
    """A callback in a storage of *rows* connections and their attempts, and in an empty one."""
    with token_server.running() as server, ExitStack() as stack:
        urls = {name: stack.enter_context(databases.named(kind)) for name in ("full", "empty")}
        InSQL(urls["full"]).grow(to=rows)
        subjects = {name: Ours(server, url) for name, url in urls.items()}
        waiting = {name: _prepared(each, rounds * times) for name, each in subjects.items()}
        costs = {name: _one(each, waiting[name], times) for name, each in subjects.items()}
        found = measured(costs, rounds=rounds)
        assert subjects["empty"].stored() == rounds * times
    what = f"a callback beside {rows:,} others, {kind}"
    return [line(what, found["full"], found["empty"], against="an empty storage")]


def in_processes(storage: str, *, processes: int = 4, count: int = 100) -> list[Line]:
    """That many processes on one server, against Flask by hand on PostgreSQL in plain text."""
    found: dict[str, list[float]] = {}
    with ExitStack() as stack:
        server = stack.enter_context(token_server.running())
        ours = stack.enter_context(databases.named(storage))
        plain = stack.enter_context(databases.named("postgresql"))
        for _ in range(3):
            for name, kind, url, many in (
                ("ours", Ours, ours, processes),
                ("by hand", ByHand, plain, processes),
                ("one", Ours, ours, 1),
            ):
                rate = _rate(kind, server, url, processes=many, count=count)
                found.setdefault(name, []).append(rate)
    what = f"{processes} processes on {storage}: rate"
    return [
        line(what, found["ours"], found["by hand"], against=ByHand.name, better="more"),
        line(what, found["ours"], found["one"], against="one process of ours", better="more"),
    ]


def _rate(
    kind: type[Subject], server: TokenServer, url: str, *, processes: int, count: int
) -> float:
    context = multiprocessing.get_context("spawn")
    before = kind(server, url).stored()
    pipes, workers = [], []
    for number in range(processes):
        here, there = context.Pipe()
        worker = context.Process(target=_work, args=(there, kind, server, url, number, count))
        worker.start()
        there.close()
        pipes.append(here)
        workers.append(worker)
    for pipe in pipes:
        pipe.recv()
    began = time.perf_counter()
    _all(pipes)
    took = time.perf_counter() - began
    for worker in workers:
        worker.join()
    stored = kind(server, url).stored() - before
    assert stored == processes * count, (kind.name, stored)
    return stored / took


def _all(pipes: Sequence[Connection]) -> None:
    for pipe in pipes:
        pipe.send("go")
    for pipe in pipes:
        pipe.recv()


def _work(
    ready: Connection, kind: type[Subject], server: TokenServer, url: str, number: int, count: int
) -> None:
    subject = kind(server, url)
    run = time.time_ns()
    waiting = [subject.prepared(f"customer-{run}-{number}-{each}") for each in range(count)]
    ready.send("prepared")
    ready.recv()
    for environ in waiting:
        subject.finish(environ)
    ready.send("done")
