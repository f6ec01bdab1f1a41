"""Every snippet of the documents is run as it stands, against the fake Finch."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from finch_middleware.options import ENVIRONMENT, Options
from finch_middleware.testing import FakeFinch

ROOT = Path(__file__).parent.parent.parent
_WITH_FRAMEWORKS = ("customer_of.md", "frameworks.md")
DOCUMENTS = [
    *ROOT.glob("*.md"),
    # Their snippets need six frameworks; they have tests of their own.
    *(path for path in ROOT.glob("docs/**/*.md") if path.name not in _WITH_FRAMEWORKS),
]
_FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r'^```\w+ title="([^"\n]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def _snippets(path: Path, language: str) -> list[str]:
    return [text for name, text in _FENCE.findall(path.read_text()) if name == language]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
@pytest.mark.usefixtures("configured")
def test_the_python_snippets_of_a_document_run_in_order(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("snippet")
    monkeypatch.setitem(sys.modules, "snippet", module)  # frameworks look up who calls them
    for name, text in _FILE.findall(path.read_text()):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
    for snippet in _snippets(path, "python"):
        exec(compile(snippet, str(path), "exec"), module.__dict__)


@pytest.mark.usefixtures("configured")
def test_the_flask_lines_of_the_readme_connect_an_employer(fake: FakeFinch) -> None:
    wrap, _ = _snippets(ROOT / "README.md", "python")
    namespace: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(wrap, "README.md", "exec"), namespace)
    client = namespace["app"].test_client()

    begun = client.post("/connect")
    returned = client.get(fake.allow(begun.headers["Location"]))

    assert returned.status_code == 303
    assert returned.headers["Location"].startswith("/?finch=connected")
    [connection] = namespace["finch"].connections.for_customer("acme")
    assert connection.access_token.reveal() in fake.ledger.tokens


def test_the_readme_shows_the_demo_and_the_flask_lines_on_its_first_screen() -> None:
    first_screen = (ROOT / "README.md").read_text().splitlines()[:40]

    assert any(line.endswith("finch-middleware demo") for line in first_screen)
    assert any("FinchMiddleware(app.wsgi_app, finch)" in line for line in first_screen)
    assert any(line.endswith(".venv/bin/pytest") for line in first_screen)


def test_the_readme_names_every_option_and_variable() -> None:
    text = (ROOT / "README.md").read_text()

    missing = [name for name in (*Options.__annotations__, *ENVIRONMENT) if f"`{name}`" not in text]

    assert missing == []


def test_the_links_between_documents_lead_somewhere() -> None:
    broken = [
        (path.name, target)
        for path in DOCUMENTS
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text())
        if not target.startswith("https://") and not (path.parent / target).exists()
    ]

    assert broken == []
