"""Generated employers: the company, people and payrolls behind an entity."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

from finch_middleware.testing.fake_finch.accounts import derived_id

PEOPLE = 25
_PAYROLLS = 12
#: The last pay date of every employer; the earlier ones are two weeks apart.
_LAST_PAY_DATE = date(2026, 10, 30)
_FIRST_NAMES = ("Ada", "Ben", "Chloe", "Dev", "Elif", "Femi", "Grace", "Hugo", "Ines", "Jun")
_LAST_NAMES = ("Abara", "Brandt", "Costa", "Diaz", "Eriksen", "Fontaine", "Garcia", "Haddad")
_DEPARTMENTS = ("Operations", "Finance", "Engineering", "Support")
_TITLES = ("Analyst", "Engineer", "Manager", "Specialist")
_COMPANIES = ("Bluebird Bakery", "Harbor Freight Lines", "Juniper Dental")

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Employer:
    """
    The data of one entity, in the shapes of Finch's API.

    Attributes:
        company: The response of ``/employer/company``.
        people: By their id, in the order of the directory.
        payments: By their id, the oldest first.
    """

    company: Fields
    people: Mapping[str, Person]
    payments: Mapping[str, Payroll]


@dataclass(frozen=True, slots=True)
class Person:
    """One person: a row of the directory, and the two records behind it."""

    listed: Fields
    individual: Fields
    employment: Fields


@dataclass(frozen=True, slots=True)
class Payroll:
    """One payment, and a pay statement for each person."""

    payment: Fields
    statements: tuple[Fields, ...]


@lru_cache(maxsize=64)
def employer_of(entity_id: str) -> Employer:
    """The employer of an entity: generated from its id, so always the same."""
    chance = random.Random(entity_id)
    people = tuple(_person(entity_id, n, chance) for n in range(PEOPLE))
    payrolls = tuple(_payroll(entity_id, n, people) for n in range(_PAYROLLS))
    return Employer(
        company=_company(entity_id, chance),
        people={person.listed["id"]: person for person in people},
        payments={payroll.payment["id"]: payroll for payroll in payrolls},
    )


def _company(entity_id: str, chance: random.Random) -> Fields:
    return {
        "id": derived_id(entity_id, "company"),
        "legal_name": f"{chance.choice(_COMPANIES)} LLC",
        "entity": {"type": "llc", "subtype": None},
        "primary_email": "payroll@employer.example",
        "primary_phone_number": "+15555550100",
        "departments": [{"name": name, "parent": None} for name in _DEPARTMENTS],
        "ein": f"00-{chance.randrange(10**7):07}",
        "locations": [_location()],
        "accounts": [],
    }


def _person(entity_id: str, number: int, chance: random.Random) -> Person:
    name = {
        "id": derived_id(entity_id, f"individual {number}"),
        "first_name": _FIRST_NAMES[number % len(_FIRST_NAMES)],
        "middle_name": None,
        "last_name": chance.choice(_LAST_NAMES),
    }
    # The first person manages the others.
    listed: Fields = {
        **name,
        "department": {"name": chance.choice(_DEPARTMENTS)},
        "manager": {"id": derived_id(entity_id, "individual 0")} if number else None,
        "is_active": number % 10 != 9,
    }
    return Person(
        listed, name | _private(number, chance), listed | _employment(listed, number, chance)
    )


def _private(number: int, chance: random.Random) -> Fields:
    """What ``/employer/individual`` has besides the name."""
    return {
        "preferred_name": None,
        "dob": f"19{70 + number % 30}-0{1 + number % 9}-15",
        "gender": "decline_to_specify",
        "ethnicity": "decline_to_specify",
        "marital_status": "unknown",
        "emails": [{"data": f"person{number}@employer.example", "type": "work"}],
        "phone_numbers": [{"data": f"+1555555{number:04}", "type": "personal"}],
        "residence": _location(),
        # 900 to 999 in front is never issued as a social security number.
        "ssn": f"9{chance.randrange(10**8):08}",
        "encrypted_ssn": None,
    }


def _employment(listed: Fields, number: int, chance: random.Random) -> Fields:
    """What ``/employer/employment`` has besides the row of the directory."""
    active, salary = listed["is_active"], 5_200_000 + 130_000 * number
    return {
        "title": chance.choice(_TITLES),
        "employment": {"type": "employee", "subtype": "full_time"},
        "employment_status": "active" if active else "terminated",
        "start_date": f"20{15 + number % 10}-03-01",
        "end_date": None if active else "2026-06-30",
        "location": _location(),
        "income": {"unit": "yearly", "effective_date": "2026-01-01", **_money(salary)},
        "income_history": None,
        "custom_fields": [],
        "source_id": f"{number + 1}",
        "class_code": None,
    }


def _payroll(entity_id: str, number: int, people: tuple[Person, ...]) -> Payroll:
    pay_date = _LAST_PAY_DATE - timedelta(weeks=2 * (_PAYROLLS - 1 - number))
    statements = tuple(_statement(each) for each in people if each.listed["is_active"])
    gross, net = (
        sum(each[key]["amount"] for each in statements) for key in ("gross_pay", "net_pay")
    )
    payment = {
        "id": derived_id(entity_id, f"payment {number}"),
        "pay_period": {
            "start_date": (pay_date - timedelta(days=18)).isoformat(),
            "end_date": (pay_date - timedelta(days=5)).isoformat(),
        },
        "pay_date": pay_date.isoformat(),
        "debit_date": (pay_date - timedelta(days=2)).isoformat(),
        "pay_frequencies": ["bi_weekly"],
        "pay_group_ids": [],
        "individual_ids": [each["individual_id"] for each in statements],
        "gross_pay": _money(gross),
        "net_pay": _money(net),
        "employee_taxes": _money(gross - net),
        "employer_taxes": _money(gross * 765 // 10_000),
        "company_debit": _money(gross + gross * 765 // 10_000),
    }
    return Payroll(payment, statements)


def _statement(person: Person) -> Fields:
    gross = person.employment["income"]["amount"] // 26
    federal, fica = gross * 12 // 100, gross * 765 // 10_000
    taxes = [("Federal Income Tax", "federal", federal), ("FICA", "fica", fica)]
    return {
        "individual_id": person.listed["id"],
        "type": "regular_payroll",
        "payment_method": "direct_deposit",
        "total_hours": 80,
        "gross_pay": _money(gross),
        "net_pay": _money(gross - federal - fica),
        "earnings": [
            {"type": "salary", "name": "Salary", "hours": 80, "attributes": None, **_money(gross)}
        ],
        "taxes": [
            {"type": kind, "name": name, "employer": False, "attributes": None, **_money(amount)}
            for name, kind, amount in taxes
        ],
        "employee_deductions": [],
        "employer_contributions": [],
    }


def _money(cents: int) -> Fields:
    return {"amount": cents, "currency": "usd"}


def _location() -> Fields:
    return {
        "line1": "1 Example Street",
        "line2": None,
        "city": "Springfield",
        "state": "IL",
        "postal_code": "62701",
        "country": "US",
    }
