"""A value that does not show itself."""

from __future__ import annotations

import hmac
from typing import NoReturn


class Secret:
    """
    A text that only `reveal()` shows.

    Printing, formatting, `vars()` and a traceback with its locals show ``Secret('…')``;
    copying gives the same object; pickling is refused, because a pickle is a place where
    secrets are forgotten. Two secrets are compared in constant time.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself. Whoever calls this answers for where it goes."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('…')"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __bool__(self) -> bool:
        return bool(self._text)

    # Without a __hash__, as every class with only this: a set or dict would compare by hash first.
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        # An encoding error would carry the text, so no text may cause one.
        ours, theirs = (each._text.encode(errors="surrogatepass") for each in (self, other))
        return hmac.compare_digest(ours, theirs)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")
