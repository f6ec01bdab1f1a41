"""A new random seed in every run; FINCH_SEED repeats one."""

from __future__ import annotations

import os
import random
import secrets
import sys


def seeded() -> random.Random:
    """A source of chance; its seed is printed, and FINCH_SEED sets it."""
    seed = int(os.environ.get("FINCH_SEED") or secrets.randbits(32))
    # A test that fails shows what was printed.
    sys.stdout.write(f"FINCH_SEED={seed}\n")
    return random.Random(seed)
