"""The manual builds, its tables match the code, and its larger examples work."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from finch_middleware import errors
from finch_middleware.adapters.asgi import THREADS
from finch_middleware.cli import COMMANDS
from finch_middleware.hooks.events import ACTIONS
from finch_middleware.outcomes import FAILED_REASONS, INVALID_REASONS, Retry
from finch_middleware.testing import Behaviour
from finch_middleware.web.html import load_template
from finch_middleware.web.texts import TEXTS
from tests.docs.snippets import DOCS, DOCUMENTS, ROOT, page, snippets

pytest_plugins = ["pytester"]

#: Snippets of the page about tests that need a pytest plugin of others; the test that runs them.
WITH_PLUGINS = ["test_django_views.py", "test_django_live.py", "test_async.py"]


def rows(text: str) -> list[list[str]]:
    """The cells of the first table in *text*, its head and its line of dashes left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def marked(name: str, mark: str) -> list[list[str]]:
    """The rows between ``<!-- mark -->`` and its end."""
    return rows(page(name).split(f"<!-- {mark} -->\n")[1].split(f"<!-- /{mark} -->")[0])


def entries(name: str, mark: str) -> dict[str, tuple[list[str], str]]:
    """Reason: its status, what helps and its page's title; then the lines below them."""
    part = page(name).split(f"<!-- {mark} -->\n")[1].split(f"<!-- /{mark} -->")[0]
    found = re.findall(r"^- `(\w+)`, (\d+), (\w+): \*(.+)\*\n((?:  .+\n)+)", part, re.MULTILINE)
    return {reason: (head, text) for reason, *head, text in found}


@pytest.mark.full
def test_the_site_builds_strictly_and_shows_the_code_that_it_includes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]

    built = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )

    assert built.returncode == 0, built.stdout + built.stderr
    assert "DjangoStorage" in (tmp_path / "storage" / "index.html").read_text()
    assert not list(tmp_path.rglob("*.py"))


def test_every_picture_is_shown() -> None:
    shown = {
        name
        for path in DOCS.glob("*.md")
        for name in re.findall(r"\]\(images/([a-z_]+\.\w+)\)", path.read_text(encoding="utf-8"))
    }
    # The site shows a screenshot's dark sibling in its place.
    shown |= {name.replace(".png", "-dark.png") for name in shown}

    assert {path.name for path in (DOCS / "images").iterdir()} == shown


@pytest.mark.parametrize(
    ("outcome", "reasons"), [("invalid", INVALID_REASONS), ("failed", FAILED_REASONS)]
)
def test_the_manual_lists_each_reason_with_what_its_page_does(
    outcome: str, reasons: dict[str, tuple[int, Retry]]
) -> None:
    listed = entries("errors", outcome)

    promised = {reason: _promised(outcome, reason, reasons) for reason in reasons}

    assert {reason: head for reason, (head, _) in listed.items()} == promised
    assert all(re.match(r"  [A-Z`]", text) for _, text in listed.values())  # the cause


def _promised(outcome: str, reason: str, reasons: dict[str, tuple[int, Retry]]) -> list[str]:
    status, retry = reasons[reason]
    return [str(status), retry.value, TEXTS[f"{outcome}.{reason}"]["title"]]


@pytest.mark.parametrize("name", ["connected", "finishing.spooled", "declined"])
def test_the_manual_has_the_texts_of_outcomes_that_continue_into_the_application(name: str) -> None:
    table = rows(page("errors").split("### The application, with a hint")[1])

    assert TEXTS[name]["title"] in [cells[2] for cells in table]


def listed_errors() -> set[tuple[str, str, str]]:
    """Each error of the manual, its parent and its code."""
    part = page("errors").split("<!-- tree -->")[1].split("<!-- /tree -->")[0]
    parents, found = ["FinchError"], set()
    for indent, name, code in re.findall(r"^( *)- `(\w+)` \(`(\w+)`\): ", part, re.MULTILINE):
        depth = len(indent) // 4
        parents[depth + 1 :] = [name]
        found.add((name, parents[depth], code))
    return found


def test_the_manual_has_the_tree_of_errors() -> None:
    classes = [each for each in vars(errors).values() if isinstance(each, type)]
    ours = [each for each in classes if issubclass(each, errors.FinchError)]

    tree = {(cls.__name__, cls.__bases__[0].__name__, cls.code) for cls in ours}

    assert listed_errors() == tree - {("FinchError", "Exception", "finch_error")}


def reported() -> dict[str, set[str]]:
    """Each event's name, and the levels that its calls name."""
    levels: dict[str, set[str]] = defaultdict(set)
    for path in (ROOT / "finch_middleware").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and _names_an_event(node.value):
                levels[str(node.value)] |= set()
            elif isinstance(node, ast.Call) and len(node.args) > 1:
                first, second = node.args[:2]
                level = isinstance(second, ast.Attribute) and second.attr.isupper()
                if isinstance(first, ast.Constant) and _names_an_event(first.value) and level:
                    assert isinstance(second, ast.Attribute)
                    levels[str(first.value)].add(second.attr)
    for fault in ("finch_unavailable", "code_rejected", "exchange_ambiguous", "bad_response"):
        levels[f"finch.exchange.{fault.removeprefix('exchange_')}"] = set()
    return levels


def _names_an_event(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"finch\.[a-z]+\.[a-z_]+", value) is not None


def events() -> dict[str, str]:
    """Each event of the manual, and its levels."""
    part = page("pages_and_hooks").split("<!-- events -->")[1].split("<!-- /events -->")[0]
    return dict(re.findall(r"^- `([a-z._]+)` \(([A-Z, ]+)\): ", part, re.MULTILINE))


def test_the_manual_lists_every_event_and_no_other() -> None:
    table = events()

    missing = {name: levels for name, levels in reported().items() if name not in table}
    gone = set(table) - set(reported())

    assert (missing, gone) == ({}, set())


def test_the_action_of_a_problem_follows_the_arrow_of_its_event() -> None:
    part = page("pages_and_hooks").split("<!-- events -->")[1].split("<!-- /events -->")[0]
    arrows = {}
    for entry in part.split("\n- ")[1:]:
        text = " ".join(entry.split())
        arrows[text.split("`")[1]] = text.partition(" → ")[2]

    assert {name: arrows[name] for name in ACTIONS} == ACTIONS


def test_an_event_has_the_level_of_the_manual() -> None:
    table = events()

    other = {n: lv for n, lv in reported().items() if not lv <= set(table[n].split(", "))}

    assert other == {}


def test_the_threads_of_the_asgi_middleware_are_as_many_as_stand_there() -> None:
    assert f"at most {THREADS} threads of its own" in page("deployment")


def test_the_manual_lists_every_placeholder_of_a_page() -> None:
    section = page("pages_and_hooks").split("## Your page")[1].split("\n## ")[0]

    in_the_manual = {name for cells in rows(section) for name in re.findall(r"`\$(\w+)`", cells[0])}
    in_the_manual |= {"nonce"}

    assert in_the_manual == set(load_template(None).get_identifiers())


def test_every_command_has_a_section_in_its_order() -> None:
    section = page("operations").split("## Commands")[1].split("\n## ")[0]

    assert re.findall(r"^### (.+)$", section, flags=re.MULTILINE) == list(COMMANDS)


def test_the_manual_lists_every_behaviour_of_the_fake() -> None:
    made = {name for name, each in vars(Behaviour).items() if isinstance(each, classmethod)}
    section = page("testing").split("## When Finch misbehaves")[1].split("\n## ")[0]

    in_the_manual = set(re.findall(r"\.([a-z_]+)\(", " ".join(cells[0] for cells in rows(section))))

    assert in_the_manual == made


@pytest.mark.full
def test_the_pytest_snippets_pass_as_they_stand(pytester: pytest.Pytester) -> None:
    files = {each.title: each.text for each in snippets(page("testing")) if each.title}
    files = {name: text for name, text in files.items() if name not in WITH_PLUGINS}
    for name, text in files.items():
        (pytester.path / name).write_text(text, encoding="utf-8")

    result = pytester.runpytest_subprocess(
        *("-p", "no:cacheprovider", "-W", "error", "-p", "no:asyncio", "-p", "no:django")
    )

    tests = sum(len(re.findall(r"^ *def test_", text, re.MULTILINE)) for text in files.values())
    result.assert_outcomes(passed=tests + 1)  # one is for two ways to leave


def test_the_overview_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", page("index")))

    assert {path.name for path in DOCS.glob("*.md")} == linked | {"index.md"}


def test_no_line_of_a_document_has_more_than_120_characters() -> None:
    documents = [*DOCUMENTS, ROOT / "examples" / "README.md"]

    long = [
        (path.name, line)
        for path in documents
        for line in path.read_text(encoding="utf-8").splitlines()
        if len(line) > 120
    ]

    assert long == []
