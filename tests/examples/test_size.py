"""What it costs to have Finch in an application, in lines."""

from __future__ import annotations

from collections.abc import Callable, Set

import pytest

from tests.examples.finch_lines import code_lines, finch_lines
from tests.examples.running import COMMANDS, EXAMPLES

#: Example: its files, without what all examples share.
SOURCES = {
    "flask_app": ["flask_app.py"],
    "flask_middleware": ["flask_middleware.py"],
    "wsgi_app": ["wsgi_app.py"],
    "pyramid_app": ["pyramid_app.py"],
    "bottle_app": ["bottle_app.py"],
    "falcon_app": ["falcon_app.py"],
    "fastapi_app": ["fastapi_app.py"],
    "django_project": [
        "django_project/payroll/settings.py",
        "django_project/payroll/urls.py",
        "django_project/payroll/views.py",
    ],
    "embedded": ["embedded/app.py"],
}
#: What any project of that framework has: of it, Finch's lines alone count.
FRAMEWORKS_OWN = {"django_project/payroll/settings.py"}


def count(name: str, counted: Callable[[str], set[int]], *, without: Set[str] = frozenset()) -> int:
    sources = [each for each in SOURCES[name] if each not in without]
    return sum(len(counted((EXAMPLES / each).read_text(encoding="utf-8"))) for each in sources)


def test_every_example_that_runs_is_counted() -> None:
    assert SOURCES.keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", SOURCES)
def test_an_application_with_finch_is_under_fifty_lines(name: str) -> None:
    lines = count(name, code_lines, without=FRAMEWORKS_OWN)

    assert 20 < lines < 50


@pytest.mark.parametrize("name", SOURCES)
def test_finch_takes_under_ten_of_them(name: str) -> None:
    lines = count(name, finch_lines)

    assert 3 < lines < 10


def test_blank_lines_comments_and_docstrings_do_not_count() -> None:
    source = '"""Two\n\nlines."""\n\n# Why.\nx = (\n    1\n)  # one\n\ny = """a\nb"""\n'

    assert code_lines(source) == {6, 7, 8, 10, 11}


#: Each line that ends with "#" is Finch's.
SAMPLE = '''
import secrets
import os  #
from django.urls import path
from finch_middleware import (  #
    Unavailable,  #
    FinchConnect,  #
)  #
from shared import home_page, listed

def create_app():
    """Holds Finch, and is not its own."""
    finch = FinchConnect.from_env(  #
        customer_of=customer_of,  #
    )  #

    @route("/")
    def home():
        """Says finch in vain."""
        shown = listed(finch)  #
        return home_page(shown, token=secrets.token_hex())

    @route("/connect")  #
    def connect():  #
        name = os.environ["NAME"]  #
        try:  #
            return converted(finch.begin(name))  #
        except Unavailable as away:  #
            return converted(away.response())  #

    @route("/other")
    def other():
        return path("other")

    for address, view in (
        ("/", home),
        ("/connect", connect),  #
        ("/finch/callback", None),  #
    ):
        add(address, view)
    return "an application"

def customer_of(request):  #
    return request.session["id"]  #

def converted(answer):  #
    return list(answer)  #

urlpatterns = [
    path("connect", connect),  #
    path("other", other),
]
'''


def test_finchs_lines_are_those_that_would_go_with_it() -> None:
    expected = {n for n, line in enumerate(SAMPLE.splitlines(), 1) if line.endswith("#")}

    assert finch_lines(SAMPLE) == expected
