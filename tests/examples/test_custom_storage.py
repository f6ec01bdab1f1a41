"""The example of a custom storage passes the contract, and the manual includes it."""

from __future__ import annotations

import ast
import inspect
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from finch_middleware.storage.protocol import Storage
from tests.examples.code_lines import code_lines
from tests.examples.running import EXAMPLES

ROOT = EXAMPLES.parent
SOURCE = EXAMPLES / "custom_storage.py"
KIT = Path(__file__).with_name("django_storage.py")
DOCUMENT = ROOT / "docs/storage.md"


@pytest.mark.full
def test_the_example_passes_the_kit(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", KIT],
        env={**os.environ, "DJANGO_DATABASE": f"{tmp_path}/django.db"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout
    assert int(re.findall(r"(\d+) passed", ended.stdout)[0]) > 100


def test_the_example_is_a_backend_in_under_a_hundred_and_twenty_lines() -> None:
    source = SOURCE.read_text(encoding="utf-8")
    imports = [node.end_lineno or 0 for node in ast.parse(source).body if _imports(node)]

    lines = [number for number in code_lines(source) if number > max(imports)]

    assert 50 < len(lines) < 120


def _imports(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def test_the_site_shows_the_whole_example_and_the_whole_protocol() -> None:
    on_page_markdown = runpy.run_path(str(ROOT / "docs/site_hooks.py"))["on_page_markdown"]

    shown = on_page_markdown(DOCUMENT.read_text(encoding="utf-8"))

    assert inspect.getsource(Storage) in shown
    assert SOURCE.read_text(encoding="utf-8") in shown


_PROJECT = """
import sys
import django
from django.core.management import call_command

sys.path[:0] = sys.argv[1:]
django.setup()
from custom_storage import DjangoStorage
from finch_middleware.testing.sample_records import a_connection, an_attempt

call_command("makemigrations", "--check", verbosity=0)
call_command("migrate", verbosity=0)
storage = DjangoStorage()
storage.check()
assert storage.claim(an_attempt()) is None
assert storage.settle(an_attempt(), a_connection()) is True
assert storage.get("connection") == a_connection()
"""


def test_the_project_migrates_its_models_and_keeps_connections_in_them(tmp_path: Path) -> None:
    settings = {
        "DJANGO_SETTINGS_MODULE": "payroll.own_database",
        "DJANGO_DATABASE": str(tmp_path / "app.db"),
    }

    ended = subprocess.run(
        [sys.executable, "-c", _PROJECT, EXAMPLES, EXAMPLES / "django_project"],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "app.db").is_file()


def test_the_document_shows_the_protocol_and_names_methods_with_a_default() -> None:
    text = DOCUMENT.read_text().partition("## Your own storage")[2]
    methods = {name for name in vars(Storage) if not name.startswith("_")}

    defaults = text.partition("The other methods have defaults.")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)(?:\(\))?`", defaults)) - {"doctor"}

    assert "<!-- include: ../finch_middleware/storage/protocol.py -->" in text
    assert len(named) == 6
    assert named <= methods - Storage.__abstractmethods__
