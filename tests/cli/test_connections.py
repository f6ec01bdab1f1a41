from __future__ import annotations

import dataclasses
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from finch_middleware.records import Entity
from tests.cli.deployment import CANARY, Deployment
from tests.cli.running import environ


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    deployment = Deployment(folder=tmp_path)
    deployment.connect("one", "two")
    deployment.connect("three", customer_id="globex", provider_id="adp\x1b[2J")
    deployment.of_client("another").connect("foreign")
    return deployment


def test_list_has_each_connection_of_ours_on_a_line(deployment: Deployment) -> None:
    result = deployment.run("connections", "list")

    rows = sorted(line.split("\t")[:3] for line in result.stdout.splitlines())
    assert result.exit_code == 0
    assert [row[:2] for row in rows] == [["one", "acme"], ["three", "globex"], ["two", "acme"]]


def test_list_continues_after_the_first_batch(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finch_middleware.storage.protocol._BATCH", 1)

    result = deployment.run("connections", "list")

    assert len(result.stdout.splitlines()) == 3


def test_list_of_one_customer_leaves_the_others_out(deployment: Deployment) -> None:
    result = deployment.run("connections", "list", "--customer", "globex", "--json")

    [row] = map(json.loads, result.stdout.splitlines())
    assert (row["connection_id"], row["customer_id"]) == ("three", "globex")


@pytest.mark.parametrize("verb", [("list",), ("list", "--json"), ("export-metadata",)])
def test_what_cannot_be_read_is_named_and_the_others_are_listed(
    deployment: Deployment, verb: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finch_middleware.storage.protocol._BATCH", 1)
    deployment.spoil("one", "two")

    result = deployment.run("connections", *verb)

    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr == "2 rows cannot be read ('one', 'two')\n"


def test_more_unreadable_rows_than_fit_a_line_are_counted(deployment: Deployment) -> None:
    names = [f"spoilt {i}" for i in range(6)]
    deployment.connect(*names)
    deployment.spoil(*names)

    result = deployment.run("connections", "list")

    assert result.stderr.startswith("6 rows cannot be read ('spoilt 0', ")
    assert result.stderr.endswith("'spoilt 4', ...)\n")


def test_list_is_a_table_on_a_terminal_that_no_row_can_disturb(deployment: Deployment) -> None:
    terminal, other_end = pty.openpty()

    subprocess.run(
        [sys.executable, "-m", "finch_middleware.cli", "connections", "list"],
        stdout=other_end,
        check=True,
        env=environ(**deployment.environ, NO_COLOR="1"),
    )

    os.close(other_end)
    head, *rows, count = os.read(terminal, 10_000).decode().splitlines()
    os.close(terminal)
    assert head.split()[:2] == ["connection", "id"]
    assert count == "3 connections"
    assert {row.index("acme") for row in rows if "acme" in row} == {head.index("customer")}
    assert not any("\x1b" in row for row in rows)


def test_export_has_every_column_but_the_sealed_token(deployment: Deployment) -> None:
    result = deployment.run("connections", "export-metadata")

    rows = {row["connection_id"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert sorted(rows) == ["one", "three", "two"]
    assert rows["one"]["products"] == ["company", "directory"]
    assert rows["one"]["key_id"] == "k0"
    assert "fm1." not in result.stdout


@pytest.mark.parametrize("as_json", [True, False])
def test_show_reports_whether_the_token_can_be_decrypted_and_never_the_token(
    deployment: Deployment, as_json: bool
) -> None:
    storage = deployment.finch.storage
    row = storage.get("one")
    assert row is not None
    storage.swap(row, dataclasses.replace(row, entities=(Entity(id="e-1"),)))

    result = deployment.run("connections", "show", "one", *["--json"] * as_json)

    assert result.exit_code == 0
    assert ('"decryptable": true' if as_json else "decryptable:     yes") in result.stdout
    assert ('"id": "e-1", "status": null' if as_json else "e-1 (unknown)") in result.stdout
    assert CANARY not in result.output


def test_show_reports_a_token_that_cannot_be_decrypted(deployment: Deployment) -> None:
    result = deployment.with_keys("k1:" + "A" * 43 + "=").run(
        "connections", "show", "one", "--json"
    )

    assert json.loads(result.stdout)["decryptable"] is False
    assert result.exit_code == 1


@pytest.mark.parametrize("ended", [False, True])
def test_history_shows_what_happened_also_after_the_end(
    deployment: Deployment, ended: bool
) -> None:
    if ended:
        deployment.run("connections", "delete", "--yes", "three")

    shown = deployment.run("connections", "history", "three")
    lines = deployment.run("connections", "history", "three", "--json").stdout.splitlines()

    first, *rest = map(json.loads, lines)
    assert (first["event"], first["customer_id"], first["key_id"]) == ("connected", "globex", "k0")
    assert [each["source"] for each in rest] == (["forget"] if ended else [])
    head = shown.stdout.splitlines()[0]
    assert head.startswith(f"{first['at']}  connected        customer_id=globex  provider_id=adp")
    assert "products=company, directory" in head
    assert "\x1b" not in shown.stdout
    assert CANARY not in shown.output


def test_delete_asks_first_and_then_removes(deployment: Deployment) -> None:
    kept = deployment.run("connections", "delete", "one", answer="n\n")
    before = deployment.tokens()

    gone = deployment.run("connections", "delete", "one", answer="y\n")

    assert (kept.exit_code, gone.exit_code) == (1, 0)
    assert "Finch is not informed" in gone.stdout
    assert (before, deployment.tokens()) == ({"one", "two"}, {"two"})


def test_delete_does_not_ask_with_yes(deployment: Deployment) -> None:
    result = deployment.run("connections", "delete", "--yes", "one")

    assert result.stdout == "Deleted.\n"
    assert deployment.tokens() == {"two"}


def test_delete_reports_its_result_as_json(deployment: Deployment) -> None:
    result = deployment.run("connections", "delete", "--yes", "--json", "one")

    assert json.loads(result.stdout) == {"connection_id": "one", "deleted": True}


@pytest.mark.parametrize("verb", [("show",), ("delete", "--yes"), ("history",)])
@pytest.mark.parametrize("name", ["unknown", "foreign"])
def test_a_connection_that_is_not_ours_is_not_there(
    deployment: Deployment, verb: tuple[str, ...], name: str
) -> None:
    result = deployment.run("connections", *verb, name)

    assert result.exit_code == 2
    assert f"connection '{name}'" in result.stderr
    assert deployment.of_client("another").keys_of()["foreign"] == "k0"
