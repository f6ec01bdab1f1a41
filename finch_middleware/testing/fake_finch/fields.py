"""The fields of Finch's requests and their values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from finch_middleware.testing.fake_finch.accounts import STATUSES
from finch_middleware.testing.fake_finch.responses import malformed

PRODUCTS = frozenset(
    {"benefits", "company", "deduction", "directory", "documents", "employment", "individual"}
    | {"payment", "pay_statement", "ssn", "plans", "plans_dependents", "plans_enrollments"}
    | {"recordkeeping"}
)
_AUTH_METHODS = ("assisted", "credential", "oauth", "api_token", None)
_RECORDKEEPERS = ("voya", "empower", "fidelity", "transamerica")
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
    return type(value) in (int, float) and 1 <= value <= _MAX_MINUTES


def _is_integration(value: Any) -> bool:
    if not isinstance(value, dict) or not _is_name(value.get("provider")):
        return False
    return value.get("auth_method") in _AUTH_METHODS


def _is_recordkeeping(value: Any) -> bool:
    return isinstance(value, dict) and value.get("recordkeeper") in _RECORDKEEPERS


def _are_entity_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_name, value))


def _or_null(admits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or admits(value)


_EMAIL = _or_null(_matches(r"[^@\s]+@[^@\s]+"))
_BOOLEAN = _or_null(lambda value: type(value) is bool)
_NAME = Field(True, _is_name, "a string of 1 to 255 characters")
_STRING = Field(True, _matches("(?s).+"), "a string")
_MINUTES = Field(False, _or_null(_are_minutes), f"a number from 1 to {_MAX_MINUTES}, or null")
_PRODUCTS = Field(True, _are_products, "a list of one or more of Finch's products")
_REDIRECT_URI = Field(False, _or_null(_matches("(?s).+")), "a URL or null")

SESSION_FIELDS = {
    "customer_id": _NAME,
    "customer_name": _NAME,
    "products": _PRODUCTS,
    "customer_email": Field(False, _EMAIL, "an e-mail address or null"),
    "integration": Field(
        False, _or_null(_is_integration), "an object {provider, auth_method} or null"
    ),
    "manual": Field(False, _BOOLEAN, "a boolean or null"),
    "minutes_to_expire": _MINUTES,
    "recordkeeping": Field(
        False, _or_null(_is_recordkeeping), f"an object with a recordkeeper of {_RECORDKEEPERS}"
    ),
    "redirect_uri": _REDIRECT_URI,
    "sandbox": Field(False, ("finch", "provider", None).__contains__, "finch, provider or null"),
}
REAUTHENTICATE_FIELDS = {
    "connection_id": Field(True, _matches("[0-9a-f-]{36}"), "the id of a connection"),
    "products": Field(False, _or_null(_are_products), f"{_PRODUCTS.words}, or null"),
    "minutes_to_expire": _MINUTES,
    "redirect_uri": _REDIRECT_URI,
}
TOKEN_FIELDS = {
    "client_id": _STRING,
    "client_secret": _STRING,
    "code": _STRING,
    "redirect_uri": _STRING._replace(required=False),
}
DISCONNECT_ENTITY_FIELDS = {"entity_ids": Field(True, _are_entity_ids, "a list of entity ids")}
SANDBOX_CONNECTION_FIELDS = {
    "provider_id": _STRING,
    "products": _PRODUCTS._replace(required=False),
    "authentication_type": Field(
        False, _AUTH_METHODS[:-1].__contains__, f"one of {_AUTH_METHODS[:-1]}"
    ),
    "employee_size": Field(False, lambda value: type(value) is int, "a whole number"),
}
SANDBOX_ACCOUNT_FIELDS = SANDBOX_CONNECTION_FIELDS | {"company_id": _STRING}
SANDBOX_STATUS_FIELDS = {
    "connection_status": Field(True, STATUSES[:-1].__contains__, f"one of {STATUSES[:-1]}")
}


def check(fields: Mapping[str, Any], *, against: Mapping[str, Field]) -> list[str]:
    """The names of undocumented fields; Refused for a missing or wrong one."""
    for name, field in against.items():
        if name not in fields and not field.required:
            continue
        if name not in fields or not field.admits(fields[name]):
            raise malformed(f"{name}: {field.words}")
    return sorted(set(fields) - set(against))
