"""
The tests on every supported interpreter and SQLAlchemy: ``nox``; one: ``nox -s 'tests-3.12(2.0)'``.

``nox -s full`` runs every engine, browser, server and campaign.
"""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "tests"]


@nox.session(python=["3.11", "3.12", "3.13"])
@nox.parametrize("sqlalchemy", ["2.0", "2.1"], ids=["2.0", "2.1"])
def tests(session: nox.Session, sqlalchemy: str) -> None:
    """The tests for every day: memory, SQLite and the PostgreSQL of a wheel."""
    session.install("-e", ".[dev]", f"sqlalchemy~={sqlalchemy}.0")
    session.run("pytest", *session.posargs)


@nox.session
def full(session: nox.Session) -> None:
    """All tests: every engine, browser, server and campaign."""
    # uwsgi is built from source, so it is in no extra.
    session.install("-e", ".[dev-full]", "uwsgi")
    session.run("pytest", "-m", "", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and types."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy", "--strict", "finch_middleware", "examples")
