"""The storage that one writes oneself: it passes the kit, and is the text of its document."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

from finch_middleware.storage import Storage
from tests.examples.finch_lines import code_lines
from tests.examples.running import EXAMPLES

ROOT = EXAMPLES.parent
SOURCE = EXAMPLES / "custom_storage.py"
KIT = Path(__file__).with_name("django_storage.py")
DOCUMENT = ROOT / "docs/storage.md"


def test_the_example_passes_the_kit(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", KIT],
        env={**os.environ, "DJANGO_DATABASE": f"{tmp_path}/django.db"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert told.returncode == 0, told.stdout
    assert int(re.findall(r"(\d+) passed", told.stdout)[0]) > 100


def test_the_example_is_as_short_as_its_document_says() -> None:
    source = SOURCE.read_text(encoding="utf-8")
    lines = [source.splitlines()[number - 1] for number in sorted(code_lines(source))]
    methods = code_lines(source[source.index("class DjangoStorage:") : source.index("for _name")])

    imports = [line for line in lines if line.startswith(("import ", "from "))]

    assert f"{len(lines) - len(imports)} lines of code without imports" in DOCUMENT.read_text()
    assert f"storage itself takes {len(methods)}" in DOCUMENT.read_text()


def test_the_document_shows_the_whole_example_and_the_whole_protocol() -> None:
    text = DOCUMENT.read_text()

    blocks = re.findall(r"^```py\n(.*?)^```$", text, re.M | re.S)

    protocol = "@runtime_checkable\n" + inspect.getsource(Storage).removeprefix(
        "@runtime_checkable\n"
    )
    assert protocol in blocks
    assert SOURCE.read_text(encoding="utf-8") in blocks


_PROJECT = """
import sys
from pathlib import Path
import django
from django.conf import settings
from django.core.management import call_command

folder = Path(sys.argv[1])
sys.path[:0] = [str(folder), sys.argv[2]]
OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
}
DATABASE = {
    "ENGINE": "django.db.backends.sqlite3", "NAME": folder / "app.db", "OPTIONS": OPTIONS,
}
settings.configure(DATABASES={"default": DATABASE}, INSTALLED_APPS=["payroll"], USE_TZ=True)
django.setup()
from custom_storage import DjangoStorage
from finch_middleware.testing.sample_records import a_connection, an_attempt

call_command("makemigrations", "payroll", verbosity=0)
call_command("migrate", verbosity=0)
call_command("makemigrations", "--check", verbosity=0)
storage = DjangoStorage()
storage.check()
assert storage.claim(an_attempt()) is None
assert storage.settle(an_attempt(), a_connection()) is True
assert storage.get("connection") == a_connection()
"""


def test_a_project_migrates_its_models_and_keeps_connections_in_them(tmp_path: Path) -> None:
    application = tmp_path / "payroll"
    (application / "migrations").mkdir(parents=True)
    for name in ("__init__.py", "migrations/__init__.py"):
        (application / name).touch()
    (application / "models.py").write_text(
        "from custom_storage import FinchAttempt, FinchConnection\n"
    )

    told = subprocess.run(
        [sys.executable, "-c", _PROJECT, tmp_path, EXAMPLES],
        capture_output=True,
        text=True,
        check=False,
    )

    assert told.returncode == 0, told.stderr
    assert (application / "migrations/0001_initial.py").is_file()


def test_the_document_names_every_method_of_the_protocol() -> None:
    text = DOCUMENT.read_text()

    methods = [name for name in vars(Storage) if not name.startswith("_")]

    assert len(methods) > 10
    assert [name for name in methods if f"| `{name}(" not in text] == []
