"""An example in a process of its own, as its user starts it, and the Finch that it talks to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from finch_middleware.crypto.keys import new_key
from finch_middleware.testing.fake_finch import FakeFinch
from tests.examples.browser import Browser
from tests.processes import free_port, started

EXAMPLES = Path(__file__).parents[2] / "examples"

#: The arguments of python, in the folder of examples, and the modules that the example needs.
COMMANDS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "flask_app": (["flask_app.py"], ["flask"]),
    "flask_middleware": (["flask_middleware.py"], ["flask"]),
    "wsgi_app": (["wsgi_app.py"], ["itsdangerous"]),
    "pyramid_app": (["pyramid_app.py"], ["pyramid"]),
    "bottle_app": (["bottle_app.py"], ["bottle"]),
    "falcon_app": (["falcon_app.py"], ["falcon", "itsdangerous"]),
    "fastapi_app": (["fastapi_app.py"], ["fastapi", "uvicorn", "itsdangerous", "python_multipart"]),
    "django_project": (["django_project/manage.py", "runserver", "--noreload"], ["django"]),
    "embedded": (["embedded/app.py"], ["flask"]),
}

# WebOb imports the standard library's old cgi module, and Pyramid pkg_resources.
_WARNINGS = (
    "error,ignore:'cgi' is deprecated:DeprecationWarning,"
    "ignore:pkg_resources is deprecated as an API:UserWarning,"
    "ignore:Deprecated call to `pkg_resources:DeprecationWarning"
)
WEBHOOK_SECRET = new_key("any").partition(":")[2]
_ADDRESS = re.compile(r"(http://localhost:\d+)")


class Running:
    """
    An example that runs.

    Attributes:
        name: Which example it is.
        fake: Its Finch, whose ledger shows what was asked.
        address: Where a browser finds it.
    """

    def __init__(
        self, name: str, *, fake: FakeFinch, process: subprocess.Popen[bytes], log: IO[bytes]
    ) -> None:
        self.name = name
        self.fake = fake
        self._log = log
        self.address = self._announced(process)

    def browser(self, *, signed_in: str | None = None) -> Browser:
        """A new browser at its home page, signed in as that employer."""
        browser = Browser(self.address)
        if signed_in is not None:
            browser.press(signed_in)
        return browser

    @property
    def log(self) -> str:
        """What it has written so far."""
        return os.pread(self._log.fileno(), 1_000_000, 0).decode()

    def _announced(self, process: subprocess.Popen[bytes]) -> str:
        while process.poll() is None:
            if found := _ADDRESS.search(self.log):
                return found[1]
            time.sleep(0.02)
        raise AssertionError(f"{self.name} did not start:\n{self.log}")


@contextmanager
def running(name: str, **variables: str) -> Iterator[Running]:
    """
    The example with these environment variables, until the `with` block ends.

    Without any, it starts a Finch of its own.
    """
    arguments, modules = COMMANDS[name]
    for module in modules:
        pytest.importorskip(module)
    others = {k: v for k, v in os.environ.items() if not k.startswith("FINCH_")}
    settings = {"PORT": str(free_port()), "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": _WARNINGS}
    with FakeFinch() as fake, tempfile.TemporaryFile() as log:
        env = others | settings | variables | (_finch(fake) if variables else {})
        with started([sys.executable, *arguments], cwd=EXAMPLES, env=env, log=log) as process:
            yield Running(name, fake=fake, process=process, log=log)


def _finch(fake: FakeFinch) -> dict[str, str]:
    return {"FINCH_API_URL": fake.api_url, "FINCH_CONNECT_ORIGIN": fake.connect_origin}


def settings_of_an_application(storage: str) -> dict[str, str]:
    """The environment of an application; `running` adds where its Finch is."""
    port, fake = free_port(), FakeFinch()
    return {
        "FINCH_CLIENT_ID": fake.client_id,
        "FINCH_CLIENT_SECRET": fake.client_secret,
        "FINCH_REDIRECT_URI": f"http://localhost:{port}/finch/callback",
        "FINCH_PRODUCTS": "company, directory",
        "FINCH_STORAGE_URL": storage,
        "FINCH_KEY": new_key("real"),
        "FINCH_WEBHOOK_SECRETS": WEBHOOK_SECRET,
        "PORT": str(port),
    }
