"""The fake Finch follows the rules of Finch's documentation, over real HTTP."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
import requests

from finch_middleware.testing.clock import Clock
from finch_middleware.testing.fake_finch import FakeFinch
from tests.testing.asking_fake import (
    REDIRECT_URI,
    SESSION,
    TIMEOUT_SECONDS,
    VERSION,
    body_of,
    get,
    open_session,
    post,
    query_of,
)


def reauthenticate(fake: FakeFinch, **fields: Any) -> Any:
    absent = dict.fromkeys(SESSION, "absent")
    return open_session(fake, path="/connect/sessions/reauthenticate", **absent | fields)


def present(fake: FakeFinch, code: str, **fields: Any) -> Any:
    """The response to an exchange of a code of the redirect flow."""
    return post(fake, "/auth/token", body_of(fake, code) | {"redirect_uri": REDIRECT_URI} | fields)


def ask(fake: FakeFinch, method: str, path: str, *, token: str) -> Any:
    headers = VERSION | {"Authorization": f"Bearer {token}"}
    return requests.request(method, fake.api_url + path, headers=headers, timeout=TIMEOUT_SECONDS)


def consented(fake: FakeFinch, **fields: Any) -> str:
    location = open_session(fake, redirect_uri=REDIRECT_URI, **fields).json()["connect_url"]
    return query_of(fake.allow(location))["code"][0]


class TestSessions:
    def test_a_session_has_an_id_and_an_address_that_carries_it(self, fake: FakeFinch) -> None:
        response = open_session(fake, redirect_uri=REDIRECT_URI)

        body = response.json()
        assert response.status_code == 201
        assert (
            body["connect_url"] == f"{fake.connect_origin}/authorize?session={body['session_id']}"
        )
        assert fake.ledger.sessions[0].session_id == body["session_id"]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("customer_id", "absent"),
            ("customer_id", ""),
            ("customer_id", "x" * 256),
            ("customer_id", 7),
            ("customer_name", "absent"),
            ("customer_name", "x" * 256),
            ("products", "absent"),
            ("products", []),
            ("products", ["company", "weather"]),
            ("products", [["company"]]),
            ("products", "company"),
            ("customer_email", "nobody"),
            ("integration", {"provider": "gusto", "auth_method": "magic"}),
            ("integration", {"auth_method": "oauth"}),
            ("manual", 1),
            ("minutes_to_expire", 0),
            ("minutes_to_expire", 129_601),
            ("minutes_to_expire", True),
            ("minutes_to_expire", 0.5),
            ("recordkeeping", {"recordkeeper": "me"}),
            ("sandbox", "yes"),
            ("redirect_uri", "http://app.example.com/cb"),
            ("redirect_uri", "http://localhost:5000/cb#part"),
            ("redirect_uri", "https:///cb"),
            ("redirect_uri", ""),
        ],
    )
    def test_a_field_outside_the_documentation_is_refused_by_name(
        self, fake: FakeFinch, field: str, value: Any
    ) -> None:
        response = open_session(fake, **{field: value})

        assert response.status_code == 400
        assert response.json()["finch_code"] == "invalid_request"
        assert response.json()["message"].startswith(field)
        assert fake.ledger.sessions == ()

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("customer_id", "x" * 255),
            ("customer_email", None),
            ("customer_email", "pay@acme.example"),
            ("integration", {"provider": "gusto", "auth_method": None}),
            ("manual", None),
            ("integration", None),
            ("minutes_to_expire", None),
            ("minutes_to_expire", 60.5),
            ("recordkeeping", {"recordkeeper": "voya", "plan_id": "1"}),
            ("redirect_uri", None),
            ("redirect_uri", "http://127.0.0.1:5000/cb"),
            ("minutes_to_expire", 1),
            ("minutes_to_expire", 129_600),
            ("sandbox", "finch"),
            ("redirect_uri", "https://app.example.com/cb?a=b"),
        ],
    )
    def test_every_documented_value_is_accepted(
        self, fake: FakeFinch, field: str, value: Any
    ) -> None:
        assert open_session(fake, **{field: value}).status_code == 201

    def test_a_registered_redirect_uri_is_accepted_and_no_other(self) -> None:
        with FakeFinch(redirect_uris=["http://127.0.0.1:5000/cb"]) as fake:
            registered = open_session(fake, redirect_uri="http://127.0.0.1:5000/cb")
            other = open_session(fake, redirect_uri=REDIRECT_URI)

        assert (registered.status_code, other.status_code) == (201, 400)

    @pytest.mark.parametrize("auth", [None, ("client-fake", "wrong"), ("other", "")])
    def test_only_the_client_opens_sessions(
        self, fake: FakeFinch, auth: tuple[str, str] | None
    ) -> None:
        url = fake.api_url + "/connect/sessions"

        response = requests.post(
            url, json=SESSION, headers=VERSION, auth=auth, timeout=TIMEOUT_SECONDS
        )

        assert (response.status_code, response.json()["name"]) == (401, "invalid_client_error")

    @pytest.mark.parametrize("path", ["/connect/sessions", "/auth/token", "/introspect"])
    def test_the_version_header_is_required(self, fake: FakeFinch, path: str) -> None:
        method = "GET" if path == "/introspect" else "POST"

        response = requests.request(method, fake.api_url + path, json={}, timeout=TIMEOUT_SECONDS)

        assert response.status_code == 400
        assert "Finch-API-Version" in response.json()["message"]

    def test_a_session_for_a_connected_customer_is_refused_with_the_connection(
        self, fake: FakeFinch
    ) -> None:
        before = open_session(fake)
        connection_id = present(fake, consented(fake)).json()["connection_id"]

        response = open_session(fake)

        assert before.status_code == 201
        assert response.status_code == 400
        assert response.json()["finch_code"] == "connection_already_exists"
        assert response.json()["context"] == {"connection_id": connection_id}

    def test_reauthentication_gives_a_new_token_for_the_same_connection(
        self, fake: FakeFinch
    ) -> None:
        first = present(fake, consented(fake)).json()
        opened = reauthenticate(
            fake, connection_id=first["connection_id"], redirect_uri=REDIRECT_URI
        ).json()

        location = opened["connect_url"]
        second = present(fake, query_of(fake.allow(location, provider="rippling"))["code"][0])

        assert fake.ledger.sessions[-1].connection_id == first["connection_id"]
        assert second.json()["connection_id"] == first["connection_id"]
        assert second.json()["provider_id"] == first["provider_id"]
        assert second.json()["access_token"] != first["access_token"]

    def test_an_unknown_connection_cannot_be_reauthenticated(self, fake: FakeFinch) -> None:
        unknown = reauthenticate(fake, connection_id="0" * 36)
        malformed = reauthenticate(fake, connection_id="acme")

        assert (unknown.status_code, malformed.status_code) == (404, 400)


class TestToken:
    def test_a_token_comes_with_every_documented_field(self, fake: FakeFinch) -> None:
        response = present(fake, consented(fake))

        body = response.json()
        assert response.status_code == 200
        assert set(body) == {
            *("access_token", "token_type", "connection_id", "customer_id", "customer_name"),
            *("account_id", "company_id", "client_type", "connection_type", "products"),
            *("provider_id", "entity_ids"),
        }
        assert (body["customer_id"], body["products"]) == ("acme", ["company"])
        assert fake.ledger.tokens == (body["access_token"],)

    def test_a_code_buys_one_token_however_often_it_is_presented(self, fake: FakeFinch) -> None:
        code = consented(fake)
        together = Barrier(8)

        def race(_: int) -> int:
            together.wait()
            return int(present(fake, code).status_code)

        with ThreadPoolExecutor(8) as pool:
            statuses = sorted(pool.map(race, range(8)))

        assert statuses == [200] + [400] * 7
        assert fake.ledger.presented(code) == 8
        assert fake.ledger.minted(code) == fake.ledger.tokens
        assert len(fake.ledger.tokens) == 1

    @pytest.mark.parametrize(("late_by", "status"), [(-1, 200), (0, 400)])
    def test_a_code_lives_ten_minutes(
        self, fake: FakeFinch, clock: Clock, late_by: int, status: int
    ) -> None:
        code = consented(fake)

        clock.move(timedelta(minutes=10, seconds=late_by))

        assert present(fake, code).status_code == status

    @pytest.mark.parametrize(
        ("fields", "status", "name"),
        [
            ({"code": "unknown"}, 400, "invalid_grant_error"),
            ({"redirect_uri": "absent"}, 400, "invalid_grant_error"),
            ({"redirect_uri": REDIRECT_URI + "/"}, 400, "invalid_grant_error"),
            ({"client_id": "other"}, 401, "invalid_client_error"),
            ({"client_secret": "wrong"}, 401, "invalid_client_error"),
            ({"client_secret": "\ud800"}, 401, "invalid_client_error"),
            ({"client_secret": "absent"}, 400, "bad_request"),
            ({"code": 7}, 400, "bad_request"),
        ],
    )
    def test_a_wrong_request_buys_nothing_and_spends_nothing(
        self, fake: FakeFinch, fields: dict[str, Any], status: int, name: str
    ) -> None:
        code = consented(fake)

        refused = present(fake, **{"code": code, **fields})

        assert (refused.status_code, refused.json()["name"]) == (status, name)
        assert fake.ledger.tokens == ()
        assert present(fake, code).status_code == 200

    def test_a_redirect_uri_is_refused_for_an_embedded_code(self, fake: FakeFinch) -> None:
        session_id = open_session(fake).json()["session_id"]
        code = fake.allow_embedded(session_id, state="s")["code"]

        with_uri = present(fake, code)
        without_uri = present(fake, code, redirect_uri="absent")

        assert with_uri.json()["name"] == "invalid_grant_error"
        assert without_uri.status_code == 200

    @pytest.mark.parametrize(
        ("body", "headers"),
        [
            (b"client_id=a&code=b", {"Content-Type": "application/x-www-form-urlencoded"}),
            (b"{}", {"Content-Type": "text/plain"}),
            (b"not json", {"Content-Type": "application/json"}),
            (b"[" * 60_000, {"Content-Type": "application/json"}),
            (b"[]", {"Content-Type": "application/json"}),
        ],
    )
    def test_anything_but_a_json_object_is_malformed(
        self, fake: FakeFinch, body: bytes, headers: dict[str, str]
    ) -> None:
        url = fake.api_url + "/auth/token"

        response = requests.post(url, data=body, headers=VERSION | headers, timeout=TIMEOUT_SECONDS)

        assert response.json()["finch_code"] == "invalid_request"
        assert re.search("body|Content-Type", response.json()["message"])

    def test_what_is_undocumented_is_tolerated_and_noted(self, fake: FakeFinch) -> None:
        body = body_of(fake, consented(fake)) | {"redirect_uri": REDIRECT_URI, "grant_type": "x"}

        response = post(fake, "/auth/token", body, auth=("a", "b"))

        assert response.status_code == 200
        assert fake.ledger.notes == (
            "token: an Authorization header beside the body",
            "/auth/token: the field grant_type",
        )

    def test_a_providers_choice_decides_the_connection(self, fake: FakeFinch) -> None:
        first = open_session(fake, redirect_uri=REDIRECT_URI).json()["connect_url"]
        codes = [query_of(fake.allow(first, provider=p))["code"][0] for p in ("gusto", "rippling")]

        gusto, rippling = (present(fake, code).json() for code in codes)

        assert (gusto["provider_id"], rippling["provider_id"]) == ("gusto", "rippling")
        assert gusto["connection_id"] != rippling["connection_id"]

    def test_a_sandbox_session_gives_a_sandbox_token(self, fake: FakeFinch) -> None:
        sandbox = present(fake, consented(fake, sandbox="provider")).json()
        live = present(fake, consented(fake, customer_id="other")).json()

        assert (sandbox["client_type"], live["client_type"]) == ("sandbox", "production")


class TestOtherCalls:
    def test_introspect_describes_the_connection_of_a_token(self, fake: FakeFinch) -> None:
        token = present(fake, consented(fake)).json()

        response = ask(fake, "GET", "/introspect", token=token["access_token"]).json()

        assert response["connection_id"] == token["connection_id"]
        assert response["connection_status"]["status"] == "connected"
        assert response["customer_id"] == "acme"
        assert response["id"] not in (token["connection_id"], token["access_token"])

    @pytest.mark.parametrize(
        ("headers", "name"),
        [
            ({}, "unauthorized_request_error"),
            ({"Authorization": "Bearer "}, "unauthorized_request_error"),
            ({"Authorization": "Bearer unknown"}, "invalid_token_error"),
        ],
    )
    def test_a_missing_and_a_wrong_token_have_names_of_their_own(
        self, fake: FakeFinch, headers: dict[str, str], name: str
    ) -> None:
        response = get(fake.api_url + "/introspect", headers=VERSION | headers)

        assert (response.status_code, response.json()["name"]) == (401, name)

    def test_disconnect_ends_every_token_of_the_connection_and_no_other(
        self, fake: FakeFinch
    ) -> None:
        location = open_session(fake, redirect_uri=REDIRECT_URI).json()["connect_url"]
        codes = [query_of(fake.allow(location))["code"][0] for _ in range(2)]
        codes.append(consented(fake, customer_id="other"))
        tokens = [present(fake, code).json()["access_token"] for code in codes]

        response = ask(fake, "POST", "/disconnect", token=tokens[0])

        after = [ask(fake, "GET", "/introspect", token=token).status_code for token in tokens]
        assert response.json() == {"status": "success"}
        assert after == [401, 401, 200]
        assert fake.ledger.calls("introspect") == 3
        assert open_session(fake).status_code == 201

    def test_connecting_again_after_a_disconnect_makes_a_new_connection(
        self, fake: FakeFinch
    ) -> None:
        before, late = (consented(fake) for _ in range(2))
        first = present(fake, before).json()
        ask(fake, "POST", "/disconnect", token=first["access_token"])

        second = present(fake, consented(fake)).json()
        straggler = present(fake, late).json()
        ended = ask(fake, "POST", "/disconnect", token=straggler["access_token"])

        assert second["connection_id"] != first["connection_id"] == straggler["connection_id"]
        assert ended.status_code == 200
        assert open_session(fake).json()["context"]["connection_id"] == second["connection_id"]

    def test_every_response_has_its_own_request_id(self, fake: FakeFinch) -> None:
        paths = ("/introspect", "/authorize", "/nowhere", "/_fake/ledger")

        ids = {get(fake.api_url + p).headers["Finch-Request-Id"] for p in paths}

        assert len(ids) == 4

    def test_an_unknown_path_or_method_is_refused_in_finchs_form(self, fake: FakeFinch) -> None:
        path = get(fake.api_url + "/nowhere", headers=VERSION)
        method = requests.get(
            fake.api_url + "/auth/token", headers=VERSION, timeout=TIMEOUT_SECONDS
        )

        assert (path.json()["code"], method.json()["code"]) == (404, 405)
