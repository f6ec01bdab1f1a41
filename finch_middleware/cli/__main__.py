"""``python -m finch_middleware.cli``: the command line, as ``finch-middleware`` has it."""

from __future__ import annotations

from finch_middleware.cli import main

if __name__ == "__main__":
    main(prog_name="finch-middleware")
