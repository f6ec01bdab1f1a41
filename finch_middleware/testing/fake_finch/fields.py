"""The fields of Finch's requests, and what each may be."""

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
    """What a field may be, in code and in words."""

    required: bool
    admits: Callable[[Any], bool]
    words: str


def _is_string(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 255


def _is_email(value: Any) -> bool:
    return value is None or bool(isinstance(value, str) and re.fullmatch(r"[^@\s]+@[^@\s]+", value))


def _are_products(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(each, str) and each in PRODUCTS for each in value)


def _are_minutes(value: Any) -> bool:
    return type(value) is int and 1 <= value <= _MAX_MINUTES


def _is_integration(value: Any) -> bool:
    if not isinstance(value, dict) or not _is_text(value.get("provider")):
        return False
    return value.get("auth_method") in _AUTH_METHODS


def _is_connection_id(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[0-9a-f-]{36}", value))


def _is_boolean(value: Any) -> bool:
    return value is None or type(value) is bool


def _is_sandbox(value: Any) -> bool:
    return value in ("finch", "provider", None)


_NAME = Field(True, _is_text, "a string of 1 to 255 characters")
_STRING = Field(True, _is_string, "a string")
_MINUTES = Field(False, _are_minutes, f"a whole number from 1 to {_MAX_MINUTES}")
_PRODUCTS = Field(True, _are_products, "a list of one or more of Finch's products")

SESSION_FIELDS = {
    "customer_id": _NAME,
    "customer_name": _NAME,
    "products": _PRODUCTS,
    "customer_email": Field(False, _is_email, "an e-mail address or null"),
    "integration": Field(False, _is_integration, "an object {provider, auth_method}"),
    "manual": Field(False, _is_boolean, "a boolean or null"),
    "minutes_to_expire": _MINUTES,
    "sandbox": Field(False, _is_sandbox, "finch, provider or null"),
}
REAUTHENTICATE_FIELDS = {
    "connection_id": Field(True, _is_connection_id, "the id of a connection"),
    "products": _PRODUCTS._replace(required=False),
    "minutes_to_expire": _MINUTES,
}
TOKEN_FIELDS = {
    "client_id": _STRING,
    "client_secret": _STRING,
    "code": _STRING,
    "redirect_uri": _STRING._replace(required=False),
}
