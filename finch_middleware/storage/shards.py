"""Parts of a storage's connections, so that several processes share one long task."""

from __future__ import annotations

from dataclasses import dataclass

from finch_middleware.records import connection_hash

_HASHES = 1 << 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """
    Part *number* of *count*, counted from one: a range of connection hashes.

    Each connection belongs to exactly one of the *count* parts, and never changes to another.
    """

    number: int
    count: int

    @property
    def before(self) -> bytes:
        """Just below its lowest hash."""
        start = _start(self.number - 1, self.count)
        return (start - 1).to_bytes(32, "big") if start else b""

    @property
    def last(self) -> bytes:
        """The highest of its hashes."""
        return (_start(self.number, self.count) - 1).to_bytes(32, "big")

    def holds(self, connection_id: str) -> bool:
        """Whether the connection belongs to this part."""
        return self.before < connection_hash(connection_id) <= self.last


#: All connections.
WHOLE = Shard(number=1, count=1)


def _start(number: int, count: int) -> int:
    # Rounded up. With another rounding, two neighbours would share a hash or miss one.
    return -(-number * _HASHES // count)
