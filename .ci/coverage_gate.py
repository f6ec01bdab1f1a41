"""Fails where branches are untested: 95 % overall, and every branch where a token is at stake."""

from __future__ import annotations

import sys
from pathlib import Path

import coverage

PACKAGE = Path(__file__).parent.parent / "finch_middleware"
#: Files, and folders with all their files, in which every branch has to be tested.
WHOLE = [
    "attempts.py",
    "binding.py",
    "callback.py",
    "crypto/vault.py",
    "duplicates.py",
    "exchange.py",
    "storage/**/*.py",
    "tickets.py",
]


def main() -> int:
    unmatched = [name for name in WHOLE if not list(PACKAGE.glob(name))]
    if unmatched:
        sys.exit(f"no such file: {', '.join(unmatched)}")
    measured = coverage.Coverage()
    measured.combine()
    measured.load()
    overall = measured.report(show_missing=True, skip_covered=True)
    files = [str(file) for name in WHOLE for file in PACKAGE.glob(name)]
    critical = measured.report(include=files, show_missing=True, skip_covered=True)
    sys.stdout.write(f"branches: {overall:.1f} % overall, {critical:.2f} % where all have to be\n")
    return 0 if overall >= 95 and critical == 100 else 1


if __name__ == "__main__":
    sys.exit(main())
