"""What a repository on GitHub has beside the code runs the same checks as a developer does."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORKFLOW = (ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def sessions() -> dict[str, ast.FunctionDef]:
    """The sessions of noxfile.py by name."""
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    return {each.name: each for each in tree.body if isinstance(each, ast.FunctionDef)}


def listed(node: ast.AST) -> list[list[str]]:
    """The lists of strings among the decorators of a session."""
    return [ast.literal_eval(each) for each in ast.walk(node) if isinstance(each, ast.List)]


def matrix(name: str) -> list[str]:
    found = re.search(rf"^ +{name}: (\[.*\])$", WORKFLOW, re.MULTILINE)
    assert found is not None
    return list(ast.literal_eval(found[1]))


def test_the_workflow_runs_every_session_of_nox_on_every_interpreter() -> None:
    run = re.findall(r"nox -s '?([\w]+)", WORKFLOW)

    assert sorted(run) == sorted(sessions())
    assert matrix("python") in listed(sessions()["tests"])
    assert matrix("sqlalchemy") in listed(sessions()["tests"])


def test_the_workflow_installs_the_programs_that_the_tests_need() -> None:
    named = re.search(r"these Debian packages: (.*?)\.\n", CONTRIBUTING, re.DOTALL)
    installed = re.search(r"apt-get install -y (.*)", WORKFLOW)

    assert named is not None
    assert installed is not None
    assert sorted(installed[1].split()) == sorted(re.split(r",\s+", named[1]))


def test_pre_commit_runs_the_commands_of_the_lint_session() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")

    calls = [each for each in ast.walk(sessions()["lint"]) if isinstance(each, ast.Call)]
    commands = {
        " ".join(ast.literal_eval(argument) for argument in call.args)
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == "run"
    }

    assert commands <= set(re.findall(r"entry: (.*)", text))
