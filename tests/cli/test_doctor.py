from __future__ import annotations

import json
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from finch_middleware.attempts import AttemptState
from finch_middleware.connect import FinchConnect
from finch_middleware.crypto.keys import new_key
from finch_middleware.errors import StorageUnavailable
from finch_middleware.records import SealedToken
from finch_middleware.storage.sql.storage import SQLAlchemyStorage
from finch_middleware.testing.sample_records import NOON, a_connection, an_attempt
from tests.cli.deployment import NEW, OLD, Deployment
from tests.storage import servers


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(folder=tmp_path)


def found(deployment: Deployment, *, status: int = 0) -> dict[str, list[tuple[str, str]]]:
    """About what: each verdict with its text."""
    result = deployment.run("doctor", "--json")
    assert result.exit_code == status, result.output
    by_subject: dict[str, list[tuple[str, str]]] = {}
    for each in json.loads(result.stdout):
        by_subject.setdefault(each["about"], []).append((each["verdict"], each["text"]))
    return by_subject


def test_a_healthy_deployment_is_ok_throughout(deployment: Deployment) -> None:
    deployment.connect("one", "two")

    results = found(deployment)

    assert {verdict for each in results.values() for verdict, _ in each} == {"ok"}
    assert results["storage"][0][1].startswith("sqlite:///")
    assert results["connections"] == [("ok", "2 of client_id client")]
    assert results["keys in use"] == [("ok", "tokens under k0: 2")]


def test_whether_webhooks_are_received_is_stated(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    [(_, without)] = found(deployment)["webhooks"]
    monkeypatch.setenv("FINCH_WEBHOOK_SECRETS", "bm8=")
    [(_, received)] = found(deployment)["webhooks"]

    assert without.startswith("not received; only `finch-middleware refresh`")
    assert received == "received at a view of the application, if it has one"


def test_the_storage_is_described_by_its_kind_version_settings_and_tables(
    deployment: Deployment,
) -> None:
    [(_, text)] = found(deployment)["storage"]

    assert re.search(r"; SQLite 3\.[\d.]+; journal_mode wal; synchronous 2; ", text)
    assert text.endswith("; finch_attempts; finch_connections; finch_events")


def test_a_storage_that_does_not_describe_itself_is_named(tmp_path: Path) -> None:
    environ = {**Deployment(folder=tmp_path).environ, "FINCH_STORAGE_URL": "memory://"}

    result = _run({**environ, "FINCH_SPOOL": "none"})

    assert "memory:// can be read and written\n" in result.output


def test_a_storage_that_becomes_unavailable_while_it_is_described_fails(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: object) -> None:
        raise StorageUnavailable("busy")

    monkeypatch.setattr(SQLAlchemyStorage, "describe", away)

    assert found(deployment, status=1)["storage"][0][0] == "fail"


def test_rows_that_cannot_be_read_are_wrong_and_named(deployment: Deployment) -> None:
    deployment.connect("one", "two")
    deployment.spoil("two")

    results = found(deployment, status=1)

    assert results["connections"][0] == ("ok", "1 of client_id client")
    assert results["connections"][1][0] == "fail"
    assert results["connections"][1][1].startswith("1 row cannot be read ('two')")


def test_a_person_reads_one_line_for_each_finding(deployment: Deployment) -> None:
    result = deployment.run("doctor")

    assert result.exit_code == 0
    assert {line.split()[0] for line in result.stdout.splitlines()} == {"ok"}


@pytest.mark.parametrize(
    ("accepted", "verdict", "fix"),
    [([OLD], "warn", "run `finch-middleware rotate-keys`"), ([], "fail", "cannot be decrypted")],
    ids=["still accepted", "gone too soon"],
)
def test_an_older_key_that_is_in_use_is_named_with_the_fix(
    deployment: Deployment, accepted: list[str], verdict: str, fix: str
) -> None:
    deployment.connect("one")
    deployment.quarantine("held")

    results = found(deployment.with_keys(NEW, *accepted), status=int(verdict == "fail"))

    [(found_verdict, text)] = results["keys in use"]
    assert (found_verdict, text.split(";")[0]) == (verdict, "tokens under k0: 2")
    assert fix in text


@pytest.mark.parametrize("where", ["connection", "quarantine", "spool"])
def test_another_key_with_the_same_id_fails(deployment: Deployment, where: str) -> None:
    if where == "quarantine":
        deployment.quarantine("held")
    else:
        deployment.connect("one")
    if where == "spool":
        deployment.finch.storage.delete(deployment.spool("one"), at=NOON)

    results = found(deployment.with_keys(new_key("k0")), status=1)
    commands = [["rotate-keys", "--check"], ["rotate-keys"]]
    others = [deployment.with_keys(new_key("k0")).run(*each) for each in commands]

    [(verdict, text)] = results["keys in use"]
    assert verdict == "fail"
    assert text.startswith("tokens under k0: 1; the configured key with this id decrypts none")
    for each in others:
        assert each.exit_code == 1
        assert "Tokens under k0: the configured key with this id decrypts none" in each.stderr


def test_one_altered_row_does_not_condemn_its_key(deployment: Deployment) -> None:
    deployment.connect("one", "three")
    deployment.with_keys(new_key("k0")).connect("two")

    assert found(deployment)["keys in use"] == [("ok", "tokens under k0: 3")]


@pytest.mark.parametrize(
    "arguments",
    [["doctor"], ["create-tables"], ["connections", "list"], ["sweep"], ["demo", "--storage"]],
    ids=" ".join,
)
def test_an_sqlite_folder_that_does_not_exist_is_named(
    tmp_path: Path, arguments: list[str]
) -> None:
    missing = Deployment(folder=tmp_path / "no-such-folder")
    url = [missing.environ["FINCH_STORAGE_URL"]] if "demo" in arguments else []

    result = missing.run(*arguments, *url)

    assert result.exit_code == (1 if arguments == ["doctor"] else 2)
    assert f"the folder {tmp_path}/no-such-folder does not exist: create it" in result.output


def test_a_mix_of_client_types_is_reported(deployment: Deployment) -> None:
    deployment.connect("one")
    token = SealedToken(text="fm1.k0.c2VhbGVk")
    mixed = a_connection("two", client_type="production", client_id="client", sealed=token)
    done = an_attempt(client_id="client").settled(AttemptState.STORED, at=NOON)
    deployment.finch.storage.settle(done, mixed)

    results = found(deployment)

    [(verdict, text)] = results["client type"]
    assert verdict == "warn"
    assert text.startswith("1 production, 1 sandbox")


def test_another_client_in_the_same_storage_is_reported_and_its_keys_are_not(
    deployment: Deployment,
) -> None:
    deployment.connect("one")
    deployment.of_client("another").with_keys(NEW).connect("foreign")

    results = found(deployment)

    assert [verdict for verdict, _ in results["connections"]] == ["ok", "warn"]
    assert results["keys in use"] == [("ok", "tokens under k0: 1")]


def test_what_a_fault_left_behind_is_counted(deployment: Deployment) -> None:
    deployment.quarantine("held")
    deployment.interrupt("cut off")
    owed = an_attempt("owed", client_id="client", notified=False)
    deployment.finch.storage.settle(owed.settled(AttemptState.STORED, at=NOON))

    results = found(deployment)

    texts = [text for _, text in results["attempts"]]
    assert [text.split(";")[0] for text in texts] == [
        "interrupted: 1",
        "with a pending on_connected: 1",
        "in quarantine: 1",
    ]


def test_tokens_that_wait_in_the_spool_are_counted(deployment: Deployment) -> None:
    deployment.connect("one")
    deployment.spool("one")

    results = found(deployment)

    [(verdict, text)] = results["spool"]
    assert (verdict, text.split(";")[0]) == ("warn", "tokens waiting on this host: 1")


def test_a_spool_that_others_may_write_is_wrong(deployment: Deployment) -> None:
    finch: Any = deployment.finch
    finch.spool.prove()
    [folder] = deployment.folder.glob("*spool*")
    folder.chmod(0o777)

    results = found(deployment, status=1)

    assert [verdict for verdict, _ in results["spool"]] == ["fail", "ok"]
    assert "chmod 700" in results["spool"][0][1]


def test_a_spool_that_is_not_there_yet_is_not_made_by_an_operator(deployment: Deployment) -> None:
    found(deployment)

    assert not list(deployment.folder.glob("*spool*"))


def test_an_unavailable_storage_fails_and_ends_the_checks(deployment: Deployment) -> None:
    deployment.connect("one")
    with closing(sqlite3.connect(deployment.folder / "finch.db")) as connection:
        connection.execute("DROP TABLE finch_connections")
        connection.execute("CREATE VIEW finch_connections AS SELECT 1")

    results = found(deployment, status=1)

    assert [verdict for verdict, _ in results["storage"]] == ["fail"]
    assert "attempts" not in results


@pytest.mark.full
def test_a_server_without_tables_names_the_command(tmp_path: Path) -> None:
    for server in servers.served("postgresql", servers.postgresql):
        url = f"{server.url}&options=-csearch_path%3Dpg_temp"
        environ = {**Deployment(folder=tmp_path).environ, "FINCH_STORAGE_URL": url}

        result = _run({**environ, "FINCH_SPOOL": str(tmp_path)})

        assert result.exit_code == 1
        assert "finch-middleware create-tables" in result.output
        assert "search_path" not in result.output


def _run(environ: dict[str, str]) -> Any:
    from click.testing import CliRunner

    from finch_middleware.cli import main

    return CliRunner(env=environ).invoke(main, ["doctor"])


def test_a_count_that_stopped_is_marked(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finch_middleware.cli.doctor._COUNT_LIMIT", 2)
    deployment.connect("one", "two", "three")

    some, everything = found(deployment), deployment.run("doctor", "--all")

    assert some["connections"] == [("ok", "at least 2 of client_id client")]
    assert "3 of client_id client" in everything.stdout


@pytest.mark.parametrize(("brand", "verdicts"), [("", ["warn"]), ("Acme Payroll", [])])
def test_pages_without_the_name_of_the_application_are_reported(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, brand: str, verdicts: list[str]
) -> None:
    finch = FinchConnect.from_env(deployment.environ, brand=brand)
    monkeypatch.setitem(sys.modules, "theirs", SimpleNamespace(finch=finch))

    result = deployment.run("doctor", "--json", "--app", "theirs:finch")

    found = [each["verdict"] for each in json.loads(result.stdout) if each["about"] == "brand"]
    assert (result.exit_code, found) == (0, verdicts)
