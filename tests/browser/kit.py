"""What a browser test needs of this machine: Chromium, packages of npm, a certificate."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import pytest

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Names of one site, and of another one, that all live on this machine.
    "--host-resolver-rules=MAP *.example.test 127.0.0.1, MAP *.evil.test 127.0.0.1",
)
#: Finch's own SDK and axe, and a React old enough to have files that need no build step.
PACKAGES = ("@tryfinch/react-connect@5.0.0", "axe-core@4", "react@18", "react-dom@18")

#: How long a busy machine may take to show what a test waits for.
PATIENCE_MS = 120_000
_INSTALL_SECONDS = 120


class Missing(Exception):
    """This machine has not what a browser test needs; the message says what to install."""


def skip(reason: str) -> NoReturn:
    """Skip the test, or the whole module; fail where FINCH_TEST_REQUIRE wants browsers."""
    if "browser" in os.environ.get("FINCH_TEST_REQUIRE", "").split(","):
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)


def sync_api() -> Any:
    """Playwright's module, for the top of a module of tests."""
    try:
        api = importlib.import_module("playwright.sync_api")
    except ImportError:
        skip("playwright is not installed; pip install playwright")
    api.expect.set_options(timeout=PATIENCE_MS)
    return api


def chromium_path() -> str:
    """Debian's Chromium."""
    found = shutil.which("chromium")
    if found is None:
        raise Missing("chromium is not installed; apt-get install chromium")
    return found


def packages() -> Path:
    """The folder with `PACKAGES`, installed at first use into a cache, outside the repository."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "finch-middleware-tests" / "npm"
    if (folder / "complete").exists():
        return folder / "node_modules"
    npm = shutil.which("npm")
    if npm is None:
        raise Missing("npm is not installed; apt-get install npm")
    folder.mkdir(parents=True, exist_ok=True)
    flags = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
    try:
        subprocess.run(
            [npm, "install", *flags, "--prefix", str(folder), *PACKAGES],
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=_INSTALL_SECONDS,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        raise Missing(f"npm cannot install {', '.join(PACKAGES)}") from None
    (folder / "complete").touch()
    return folder / "node_modules"
