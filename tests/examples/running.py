"""An example in a process of its own, as its user starts it, and the Finch that it talks to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from finch_middleware.testing.fake_finch import FakeFinch
from tests.examples.browser import Browser
from tests.processes import end_with_parent, free_port

EXAMPLES = Path(__file__).parents[2] / "examples"

#: The arguments of python, in the folder of examples, and the modules that these need.
COMMANDS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "flask_app": (["flask_app.py"], ["flask"]),
    "flask_middleware": (["flask_middleware.py"], ["flask"]),
    "wsgi_app": (["wsgi_app.py"], []),
    "pyramid_app": (["pyramid_app.py"], ["pyramid"]),
    "bottle_app": (["bottle_app.py"], ["bottle"]),
    "falcon_app": (["falcon_app.py"], ["falcon"]),
    "fastapi_app": (["fastapi_app.py"], ["fastapi", "uvicorn", "itsdangerous", "python_multipart"]),
    "django_project": (["django_project/manage.py", "runserver", "--noreload"], ["django"]),
    "embedded": (["embedded/app.py"], ["flask"]),
}

# WebOb imports the standard library's old cgi module.
_WARNINGS = "error,ignore:'cgi' is deprecated:DeprecationWarning"
_ADDRESS = re.compile(r"(http://localhost:\d+)")


class Running:
    """
    An example on a free port; it ends with the `with` block.

    Attributes:
        name: Which example it is.
        fake: Its Finch, whose ledger is the oracle.
        address: Where a browser finds it.
    """

    def __init__(self, name: str, *, alone: bool = False, **variables: str) -> None:
        """
        Not running yet.

        *alone*: the example is not told of `fake`, so it starts a Finch of its own.
        *variables* are settings of its environment.
        """
        self.fake = FakeFinch()
        self.address = ""
        self.name = name
        self._alone = alone
        self._variables = variables
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Self:
        self.fake.start()
        arguments, _ = COMMANDS[self.name]
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=EXAMPLES,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent,
        )
        try:
            self.address = self._announced()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._log.close()
        self.fake.stop()

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

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FINCH_")}
        theirs = {} if self._alone else {"FINCH_API_URL": self.fake.api_url}
        if "FINCH_CLIENT_ID" in self._variables:  # now nothing is filled in for it
            theirs["FINCH_CONNECT_ORIGIN"] = self.fake.connect_origin
        ours = {"PORT": str(free_port()), "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": _WARNINGS}
        return kept | theirs | ours | self._variables

    def _announced(self) -> str:
        while self._process.poll() is None:
            if found := _ADDRESS.search(self.log):
                return found[1]
            time.sleep(0.02)
        raise AssertionError(f"{self.name} did not start:\n{self.log}")
