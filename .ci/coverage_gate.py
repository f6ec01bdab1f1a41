"""Fails where branches go untested: 95 % over all, every one of them where a token is at stake."""

from __future__ import annotations

import sys

import coverage

WHOLE = [
    "tickets",
    "vault",
    "binding",
    "flow",
    "redeem",
    "keeping",
    "spool",
    "repeats",
    "storage/*",
    "storage/dialects/*",
]


def main() -> int:
    measured = coverage.Coverage()
    measured.combine()
    measured.load()
    overall = measured.report(show_missing=True, skip_covered=True)
    files = [f"*/finch_middleware/{name}.py" for name in WHOLE]
    critical = measured.report(include=files, show_missing=True, skip_covered=True)
    sys.stdout.write(f"branches: {overall:.1f} % over all, {critical:.1f} % where all are wanted\n")
    return 0 if overall >= 95 and critical == 100 else 1


if __name__ == "__main__":
    sys.exit(main())
