"""Every snippet of the documents runs unchanged against the fake Finch."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import os
import re
import runpy
from pathlib import Path
from typing import Protocol

import pytest

from finch_middleware import WebhookEvent
from finch_middleware.crypto.keys import KeyProvider
from finch_middleware.testing import FakeFinch
from finch_middleware.web.request import CallbackRequest
from tests.docs.snippets import DOCUMENTS, ROOT, page, run, section, snippets

pytest_plugins = ["pytester"]

# Their snippets need other libraries; they have tests of their own.
WITH_FRAMEWORKS = ("customer_of.md", "frameworks.md", "monitoring.md")

#: What is no Python to be run in order, and the test that it is run by.
ELSEWHERE = {
    ("CONTRIBUTING.md", "sh"): "tests/docs/test_commands.py",
    ("README.md", "sh"): "tests/docs/test_commands.py",
    ("configuration.md", "text"): "tests/docs/test_snippets.py",
    ("deployment.md", "nginx"): "tests/servers/test_proxy.py",
    ("first_connection.md", "sh"): "tests/docs/test_commands.py",
    ("flows.md", "html"): "tests/browser/test_pages.py",
    ("keys.md", "py"): "tests/docs/test_snippets.py",
    ("operations.md", "sh"): "tests/docs/test_commands.py",
    ("operations.md", "text"): "tests/docs/test_commands.py",
    ("pages_and_hooks.md", "html"): "tests/docs/test_snippets.py",
    ("security.md", "console"): "tests/docs/test_commands.py",
    ("storage.md", "py"): "tests/docs/test_snippets.py",
    ("storage.md", "text"): "tests/storage/on_redis/test_redis_rights.py",
    ("testing.md", "py"): "tests/docs/test_manual.py",
    ("webhooks.md", "py"): "tests/docs/test_snippets.py",
    ("webhooks.md", "sh"): "tests/docs/test_commands.py",
}


def python_of(path: Path) -> list[str]:
    return [each.text for each in snippets(path.read_text(encoding="utf-8"), "python")]


def test_every_snippet_is_of_a_kind_that_a_test_runs() -> None:
    kinds = {
        (path.name, each.language)
        for path in DOCUMENTS
        for each in snippets(path.read_text(encoding="utf-8"))
    }

    assert {kind for kind in kinds if kind[1] != "python"} == set(ELSEWHERE)


@pytest.mark.parametrize(
    "path",
    [path for path in DOCUMENTS if path.name not in WITH_FRAMEWORKS],
    ids=lambda path: str(path.relative_to(ROOT)),
)
@pytest.mark.usefixtures("configured")
def test_the_python_snippets_of_a_document_run_in_order(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in snippets(path.read_text(encoding="utf-8")):
        if each.title:
            Path(each.title).parent.mkdir(parents=True, exist_ok=True)
            Path(each.title).write_text(each.text, encoding="utf-8")
    run(python_of(path), str(path), monkeypatch)


@pytest.mark.usefixtures("configured")
def test_the_flask_lines_of_the_readme_connect_an_employer(
    fake: FakeFinch, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = vars(run(python_of(ROOT / "README.md")[:1], "README.md", monkeypatch))
    client = names["app"].test_client()

    begun = client.post("/connect")
    returned = client.get(fake.allow(begun.headers["Location"]))

    assert returned.status_code == 303
    assert returned.headers["Location"].startswith("/?finch=connected")
    [connection] = names["finch"].connections.for_customer("acme")
    assert connection.access_token.reveal() in fake.ledger.tokens


@pytest.mark.usefixtures("configured")
def test_the_embedded_view_answers_its_script_with_json_whatever_happens(
    fake: FakeFinch, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_, embedded = python_of_flows()
    connect = run([first, embedded], "flows.md", monkeypatch).connect
    request = CallbackRequest(method="POST", headers={"Sec-Fetch-Mode": "cors"})

    opened = connect(request)
    fake.stop()
    refused = connect(request)

    documented = section(page("flows"), "### Embedded").split("It returns JSON: ")[1].split(".")[0]
    assert set(re.findall(r"`(\w+)`", documented)) == set(opened.json)
    assert (refused.status_code, refused.json["retry"]) == (502, "reload")


def python_of_flows() -> list[str]:
    text = page("flows")
    sections = (section(text, "### Redirect"), section(text, "### Embedded"))
    return [each.text for part in sections for each in snippets(part, "python")]


@pytest.mark.usefixtures("configured")
def test_the_faults_of_a_configuration_are_reported_in_these_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = page("configuration")
    [shown] = snippets(text, "text")
    configured, mistaken = (each.text for each in snippets(text, "python"))
    run([configured], "configuration.md", monkeypatch)
    for name in [name for name in os.environ if name.startswith("FINCH_")]:
        monkeypatch.delenv(name)

    run(["from finch_middleware import FinchConnect", mistaken], "configuration.md", monkeypatch)

    assert capsys.readouterr().out.splitlines() == shown.text.replace("\n  ", " ").splitlines()


def test_a_key_provider_has_the_two_methods_that_stand_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [shown] = snippets(page("keys"), "py")

    code = ["from typing import Protocol", shown.text]
    documented = run(code, "keys.md", monkeypatch).KeyProvider

    assert issubclass(documented, Protocol)  # type: ignore[arg-type]
    assert signatures(documented) == signatures(KeyProvider)


def signatures(protocol: type) -> dict[str, list[str]]:
    """Its methods, and what each is given."""
    methods = {name: each for name, each in vars(protocol).items() if inspect.isfunction(each)}
    return {
        name: list(inspect.signature(each).parameters)
        for name, each in methods.items()
        if not name.startswith("_")
    }


_A_STORAGE = """
import functools

import pytest

from finch_middleware.storage.memory import MemoryStorage


@functools.cache
def MyStorage(where):
    return MemoryStorage()


@pytest.fixture(autouse=True)
def empty():
    MyStorage.cache_clear()


"""


@pytest.mark.full
def test_the_kit_takes_a_storage_as_the_manual_gives_it(pytester: pytest.Pytester) -> None:
    [kit] = [each.text for each in snippets(page("storage"), "py") if "TestMyStorage" in each.text]
    pytester.makepyfile(test_my_storage=_A_STORAGE + kit)

    result = pytester.runpytest_subprocess(
        *("-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error")
    )

    outcomes = result.parseoutcomes()
    assert outcomes["passed"] > 100
    assert not outcomes.keys() & {"failed", "errors", "error"}


def test_the_queues_of_the_manual_get_nothing_but_what_an_event_has() -> None:
    fields = {each.name for each in dataclasses.fields(WebhookEvent)}

    for shown in snippets(page("webhooks"), "py"):
        tree = ast.walk(ast.parse(shown.text))
        given = {n.attr for n in tree if isinstance(n, ast.Attribute) and _is_event(n.value)}
        assert given
        assert given <= fields


def _is_event(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "event"


def test_the_readme_shows_the_demo_and_the_flask_lines_on_its_first_screen() -> None:
    first_screen = (ROOT / "README.md").read_text().splitlines()[:40]

    assert any(line.endswith("finch-middleware demo") for line in first_screen)
    assert any("FinchMiddleware(app.wsgi_app, finch)" in line for line in first_screen)
    assert any(line.endswith(".venv/bin/pytest") for line in first_screen)


def test_the_manual_lists_the_options_as_they_are_declared() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "options.py"))

    assert script["option_list"]() in page("configuration")


def test_the_links_between_documents_lead_somewhere() -> None:
    broken = [
        (path.name, target)
        for path in DOCUMENTS
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text())
        if not target.startswith("https://") and not (path.parent / target).exists()
    ]

    assert broken == []
