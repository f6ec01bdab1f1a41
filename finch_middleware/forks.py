"""What a forked child may not share with its parent: locks, pools, sockets."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

_RENEWALS: WeakKeyDictionary[object, Callable[[Any], object]] = WeakKeyDictionary()


def renew_in_children(owner: T, renew: Callable[[T], object]) -> None:
    """
    Call ``renew(owner)`` first of all in every process forked while *owner* lives.

    A lock that another thread held at the fork would never be released in the child.
    """
    _RENEWALS[owner] = renew


def _forked() -> None:
    for owner, renew in list(_RENEWALS.items()):
        renew(owner)


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_forked)
