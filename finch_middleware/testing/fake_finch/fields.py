"""The fields of Finch's requests and their values."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

PRODUCTS = frozenset(
    {"benefits", "company", "deduction", "directory", "documents", "employment", "individual"}
    | {"payment", "pay_statement", "ssn", "plans", "plans_dependents", "plans_enrollments"}
    | {"recordkeeping"}
)
_AUTH_METHODS = ("assisted", "credential", "oauth", "api_token", None)
_MAX_MINUTES = 129_600


class Field(NamedTuple):
    """The values that a field may have, as code and in words."""

    required: bool
    admits: Callable[[Any], bool]
    words: str


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 255


def _matches(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and bool(re.fullmatch(pattern, value))


def _are_products(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(each, str) and each in PRODUCTS for each in value)


def _are_minutes(value: Any) -> bool:
    return type(value) is int and 1 <= value <= _MAX_MINUTES


def _is_integration(value: Any) -> bool:
    if not isinstance(value, dict) or not _is_name(value.get("provider")):
        return False
    return value.get("auth_method") in _AUTH_METHODS


def _or_null(admits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or admits(value)


_EMAIL = _or_null(_matches(r"[^@\s]+@[^@\s]+"))
_BOOLEAN = _or_null(lambda value: type(value) is bool)
_NAME = Field(True, _is_name, "a string of 1 to 255 characters")
_STRING = Field(True, _matches("(?s).+"), "a string")
_MINUTES = Field(False, _are_minutes, f"a whole number from 1 to {_MAX_MINUTES}")
_PRODUCTS = Field(True, _are_products, "a list of one or more of Finch's products")

SESSION_FIELDS = {
    "customer_id": _NAME,
    "customer_name": _NAME,
    "products": _PRODUCTS,
    "customer_email": Field(False, _EMAIL, "an e-mail address or null"),
    "integration": Field(False, _is_integration, "an object {provider, auth_method}"),
    "manual": Field(False, _BOOLEAN, "a boolean or null"),
    "minutes_to_expire": _MINUTES,
    "sandbox": Field(False, ("finch", "provider", None).__contains__, "finch, provider or null"),
}
REAUTHENTICATE_FIELDS = {
    "connection_id": Field(True, _matches("[0-9a-f-]{36}"), "the id of a connection"),
    "products": _PRODUCTS._replace(required=False),
    "minutes_to_expire": _MINUTES,
}
TOKEN_FIELDS = {
    "client_id": _STRING,
    "client_secret": _STRING,
    "code": _STRING,
    "redirect_uri": _STRING._replace(required=False),
}
