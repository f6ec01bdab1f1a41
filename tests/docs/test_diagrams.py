"""The diagrams and pictures of the manual show the code and the pages of today."""

from __future__ import annotations

import json
import re
import runpy
from typing import Any

import pytest

from finch_middleware.attempts import AttemptState
from finch_middleware.testing.fake_finch.accounts import STATUSES
from tests.docs.snippets import DOCS, ROOT
from tests.test_architecture import LEVEL

PACKAGE = ROOT / "finch_middleware"
DIAGRAMS = runpy.run_path(str(DOCS / "diagrams.py"))
SCREENSHOTS = runpy.run_path(str(DOCS / "screenshots.py"))


@pytest.mark.parametrize("name", DIAGRAMS["diagrams"]())
def test_a_diagram_is_the_one_that_its_script_draws(name: str) -> None:
    drawn = (DOCS / "images" / name).read_text(encoding="utf-8")

    assert drawn == DIAGRAMS["diagrams"]()[name], "run: python docs/diagrams.py"


@pytest.mark.parametrize("name", DIAGRAMS["FLOWS"])
def test_each_step_of_a_flow_names_a_file_of_the_package(name: str) -> None:
    files = [step.file for step in DIAGRAMS["FLOWS"][name] if step.file]

    assert len(files) >= 9
    assert [file for file in files if not (PACKAGE / file).is_file()] == []


def test_the_states_of_an_attempt_change_where_the_diagram_states() -> None:
    changes: list[Any] = [each for all_of in DIAGRAMS["TRANSITIONS"].values() for each in all_of]

    shown = {(each.target, file) for each in changes for file in each.file.split(", ")}
    found = {
        (state.value, str(path.relative_to(PACKAGE)))
        for path in PACKAGE.rglob("*.py")
        for state in AttemptState
        if re.search(
            rf"(settled\(\s*|state, name = |state=)AttemptState\.{state.name}\b",
            path.read_text(encoding="utf-8"),
        )
        and not {"testing", "storage"} & set(path.parts)
    }
    assert shown == found


def test_the_statuses_of_a_connection_are_finchs_and_change_where_the_diagram_states() -> None:
    turns: list[Any] = list(DIAGRAMS["TURNS"])

    drawn = {name for turn in turns for name in (turn.source, turn.target)}
    assert drawn - {"none", "new", "any"} == set(STATUSES)
    assert set(DIAGRAMS["_PLACES"]) == drawn - {"any"}
    for turn in turns:
        assert f"def {turn.function}(" in (PACKAGE / turn.file).read_text(encoding="utf-8")


def test_the_diagram_of_the_package_has_every_file_and_folder() -> None:
    named = [name for names in DIAGRAMS["layers"]() for name in names]

    assert sorted(named) == sorted(set(LEVEL) - {"__init__"})
    assert set(DIAGRAMS["MEANINGS"]) == set(named)


def test_the_pictures_show_the_pages_of_today() -> None:
    pages = SCREENSHOTS["shown_pages"]()

    shown = json.loads(SCREENSHOTS["HASHES"].read_text())
    assert shown == SCREENSHOTS["hashes_of"](pages), "run: python docs/screenshots.py"
    assert "needs a new sign-in" in pages["application"].get_data(as_text=True)
