"""The storage that one writes oneself: it passes the kit, and is the text of its document."""

from __future__ import annotations

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


def test_the_storage_itself_is_under_a_hundred_lines() -> None:
    source = SOURCE.read_text(encoding="utf-8")
    storage = source[source.index("class DjangoStorage:") :]

    lines = code_lines(storage)

    assert 50 < len(lines) < 100


def test_the_document_shows_the_example_as_it_stands() -> None:
    text = DOCUMENT.read_text()

    blocks = re.findall(
        r"^```py\n(.*?)^```$", text.partition("### Over the Django ORM")[2], re.M | re.S
    )

    assert len(blocks) == 3
    assert [block for block in blocks if block not in SOURCE.read_text()] == []


def test_the_document_names_every_method_of_the_protocol() -> None:
    text = DOCUMENT.read_text()

    methods = [name for name in vars(Storage) if not name.startswith("_")]

    assert len(methods) > 10
    assert [name for name in methods if f"| `{name}(" not in text] == []
