"""Parts of a storage's connections, so that several processes share one long task."""

from __future__ import annotations

import re
from dataclasses import dataclass

from finch_middleware.errors import UsageError

_HASHES = 1 << 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """
    Part *number* of *count*, counted from one: a range of connection hashes.

    Each connection belongs to exactly one of the *count* parts, and never changes to another.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """
        The shard that is written as ``3/8``.

        Raises:
            UsageError: The text has another form, or its first number is not 1 to the second.
        """
        found = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
        number, count = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= count:
            raise UsageError(
                "a shard must be NUMBER/COUNT, such as 3/8, with a NUMBER from 1 to COUNT"
            )
        return cls(number=number, count=count)

    @property
    def before(self) -> bytes:
        """Just below its lowest hash."""
        return _last(self.number - 1, of=self.count)

    @property
    def last(self) -> bytes:
        """The highest of its hashes."""
        return _last(self.number, of=self.count)


#: All connections.
WHOLE = Shard(number=1, count=1)


def _last(number: int, *, of: int) -> bytes:
    # Rounded up. With another rounding, two neighbours would share a hash or miss one.
    return (-(-number * _HASHES // of) - 1).to_bytes(32, "big") if number else b""
