"""More than seventy courses of a flow, each on a watched scene."""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from finch_middleware import CallbackRequest, FinchConnect
from finch_middleware.testing.fake_finch import Behaviour
from tests.canaries.scene import Scene, query_of
from tests.delivering import PATH, REAUTH, SECRET, headers_of
from tests.site import CALLBACK, Browser, Site

Scenario = Callable[[Scene], object]

ANSWERED = {
    "connected": Behaviour(),
    "invalid grant": Behaviour.error(400, name="invalid_grant_error"),
    "invalid client": Behaviour.error(401, name="invalid_client_error"),
    "unpaid": Behaviour.error(402),
    "not found": Behaviour.error(404),
    "conflict": Behaviour.error(409, processed=True),
    "throttled": Behaviour.error(429),
    "throttled for long": Behaviour.error(429, headers={"Retry-After": "99999"}),
    "server error": Behaviour.error(500, processed=True),
    "bad gateway": Behaviour.response("<h1>502</h1>", status=502, content_type="text/html"),
    "redirected": Behaviour.redirect("http://127.0.0.1:9/auth/token"),
    "html": Behaviour.garbage("html"),
    "text": Behaviour.garbage("text"),
    "empty": Behaviour.garbage("empty"),
    "array": Behaviour.garbage("array"),
    "deep": Behaviour.garbage("deep"),
    "duplicate": Behaviour.garbage("duplicate"),
    "infinite": Behaviour.garbage("infinite"),
    "another customer": Behaviour.alter(customer_id="other"),
    "no customer": Behaviour.without("customer_id"),
    "no connection": Behaviour.without("connection_id"),
    "connection of another kind": Behaviour.alter(connection_id=[1]),
    "fewer products": Behaviour.alter(products=[]),
    "new fields": Behaviour.alter(new={"field": 1}),
    "token type": Behaviour.alter(token_type="mac"),
    "body cut": Behaviour.close(after_bytes=300, processed=True),
    "reset": Behaviour.reset(processed=True),
    "reset in the body": Behaviour.reset(after_bytes=300, processed=True),
    "huge": Behaviour.huge(10_000_000),
    "gzip": Behaviour.gzipped(),
}

OPENED = {
    "refused": Behaviour.error(400, message="no such product"),
    "client rejected": Behaviour.error(401, name="invalid_client_error"),
    "throttled": Behaviour.error(429),
    "server error": Behaviour.error(500),
    "garbage": Behaviour.garbage("html"),
    "elsewhere": Behaviour.alter(connect_url="https://evil.test/authorize?session=1"),
    "reset": Behaviour.reset(),
    "already connected": Behaviour.error(400, context={"connection_id": "c-1"}),
}


#: What Finch does without an end; the others end before any deadline.
ENDLESS = {
    "stalled": Behaviour.stall(processed=True),
    "stalled in the body": Behaviour.stall(after_bytes=300, processed=True),
    "dripping": Behaviour.drip_body(pace_seconds=0.02),
}


def _exchange(scene: Scene, *, behaviour: Behaviour) -> None:
    scene.fake.script("token", behaviour)
    callback = scene.fake.allow(scene.browser.location("acme"))
    scene.visit(callback)
    scene.visit(callback)
    scene.kept(Browser(scene.site).get(callback))


def _deadline(scene: Scene, *, behaviour: Behaviour) -> None:
    scene.fake.script("token", behaviour)
    with_options(scene, exchange_deadline=timedelta(seconds=0.5))


def _opening(scene: Scene, *, behaviour: Behaviour) -> None:
    scene.fake.script("sessions", behaviour)
    scene.fails(lambda: scene.site.finch.begin(customer_id="acme", customer_name="Acme"))


def _bent(scene: Scene, *, bend: Callable[[str], str]) -> None:
    scene.visit(bend(scene.fake.allow(scene.browser.location("acme"))))


def _posted(scene: Scene, *, form: bool, sent_by: str = "same-origin") -> None:
    scene.site.opening["flow"] = "embedded"
    begun = scene.browser.embedded("acme")
    fields = scene.fake.allow_embedded(begun["session_id"], state=begun["state"])
    scene.kept(scene.browser.fetch(fields, form=form, **{"Sec-Fetch-Site": sent_by}))


def _asked(scene: Scene, *, method: str, body: bytes | None = None, **headers: str) -> None:
    callback = scene.fake.allow(scene.browser.location("acme"))
    scene.kept(scene.browser.request(method, callback, headers=headers, body=body))


def _body(scene: Scene, *, template: str) -> None:
    given = query_of(scene.fake.allow(scene.browser.location("acme")))
    headers = {"Content-Type": "application/json", "Origin": scene.site.origin}
    body = template.replace("CODE", given["code"]).replace("STATE", given["state"]).encode()
    scene.kept(scene.browser.request("POST", CALLBACK, headers=headers, body=body))


def _declined(scene: Scene) -> None:
    scene.visit(scene.fake.deny(scene.browser.location("acme")))
    scene.visit(scene.fake.close(scene.browser.location("acme")))


def _expired(scene: Scene) -> None:
    callback = scene.fake.allow(scene.browser.location("acme"))
    scene.clock.move(timedelta(days=1))
    scene.visit(callback)


def _stolen(scene: Scene) -> None:
    stolen = query_of(scene.fake.allow(scene.browser.location("victim")))["code"]
    thief = Browser(scene.site)
    state = query_of(thief.location("mallory"))["state"]
    scene.kept(thief.get(f"{CALLBACK}?code={stolen}&state={state}"))


def _unknown_code(scene: Scene) -> None:
    scene.codes.append(secrets.token_urlsafe(24))
    state = query_of(scene.browser.location("acme"))["state"]
    scene.visit(f"{CALLBACK}?code={scene.codes[0]}&state={state}")


def _down(scene: Scene, *, methods: tuple[str, ...]) -> None:
    callback = scene.fake.allow(scene.browser.location("acme"))
    scene.storage.down(*methods, times=10)
    scene.visit(callback)
    scene.visit(callback)


def _begun_without_storage(scene: Scene) -> None:
    scene.storage.down("check")
    scene.fails(lambda: scene.site.finch.begin(customer_id="acme", customer_name="Acme"))


def _all_lost(scene: Scene) -> None:
    callback = scene.fake.allow(scene.browser.location("acme"))
    scene.storage.down("settle", times=10)
    scene.storage.before("settle", lambda: blocked(scene))
    scene.visit(callback)


def blocked(scene: Scene) -> None:
    """No folder stands where the spool was."""
    folder = scene.folder / "spool"
    for path in folder.glob("*"):
        path.unlink()
    folder.rmdir()
    folder.write_text("no folder")


def _odd_error(scene: Scene) -> None:
    callback = scene.fake.allow(scene.browser.location("acme"))
    for _ in range(3):
        scene.storage.raises("settle", LookupError("a storage that breaks its promise"))
    scene.visit(callback)


def _drained(scene: Scene) -> None:
    scene.storage.down("settle", times=3)
    scene.returned("acme")
    scene.returned("globex")


def _raising(*given: Any) -> Any:
    raise LookupError("the application's own")


def with_options(scene: Scene, **options: Any) -> None:
    """A callback, twice, at a site with these options."""
    site = scene.open_site(**options)
    site.secrets = scene.site.secrets
    browser = Browser(site)
    callback = scene.fake.allow(browser.location("acme"))
    scene.kept(browser.get(callback))
    scene.kept(browser.get(callback))
    scene.errors += site.errors
    scene.things += site.events


def _invited(scene: Scene) -> None:
    site = scene.open_site(invite_path="/invitation")
    site.secrets = scene.site.secrets
    url = site.finch.invitation_url(customer_id="acme", customer_name="Acme Inc.")
    site.secrets.add(url.partition("=")[2])
    browser, link = Browser(site), url.removeprefix(site.origin)
    pressed = {"Sec-Fetch-Site": "same-origin"}
    for method in ("GET", "HEAD", "PUT"):
        scene.kept(browser.request(method, link, headers=pressed))
    begun = browser.request("POST", link, headers=pressed)
    scene.kept(browser.get(scene.fake.allow(begun.location)))
    scene.kept(browser.request("POST", link, headers={"Sec-Fetch-Site": "cross-site"}))
    scene.clock.move(timedelta(days=15))
    scene.kept(browser.get(link))
    scene.kept(browser.get(link[:-1]))
    scene.errors += site.errors


def _delivered(scene: Scene, *, signed: bool, **options: Any) -> None:
    """A delivery of Finch at a site that has two secrets."""
    mine, other = (base64.b64encode(secrets.token_bytes(24)).decode() for _ in range(2))
    site = scene.open_site(webhook_path=PATH, webhook_secrets=[mine, other], **options)
    personal = secrets.token_hex(16)
    scene.site.secrets.update((mine, other, personal))
    body = json.dumps({**REAUTH, "data": {"status": "reauth", "person": personal}}).encode()
    headers = headers_of(body, at=scene.clock(), secret=mine if signed else SECRET)
    scene.things += [site.finch, site.finch.paths]
    scene.kept(Browser(site).request("POST", PATH, headers=headers, body=body))
    scene.errors += site.errors


def _misused(scene: Scene) -> None:
    begin = functools.partial(scene.site.finch.begin, customer_name="Acme")
    scene.fails(lambda: begin(customer_id=""))
    scene.fails(lambda: begin(customer_id="acme", return_to="//evil.test"))
    scene.fails(lambda: scene.site.finch.callback(object()))


def _misconfigured(scene: Scene) -> None:
    scene.fails(
        lambda: FinchConnect(
            client_id="", client_secret=scene.fake.client_secret, key=scene.key, storage="x://"
        )
    )
    cut = scene.key[:-4]
    scene.fails(lambda: FinchConnect(client_secret=scene.fake.client_secret, key=cut))


def _tampered(scene: Scene) -> None:
    scene.returned("acme")
    [row] = scene.site.finch.storage.for_customer("acme")
    sealed = dataclasses.replace(row.sealed, text=row.sealed.text[:-3] + "AAA")
    scene.storage.real.swap(row, dataclasses.replace(row, sealed=sealed))
    [connection] = scene.site.finch.connections.for_customer("acme")
    scene.fails(connection.access_token.reveal)
    scene.fails(connection.details)


def _read_back(scene: Scene) -> None:
    scene.returned("acme")
    [connection] = scene.site.finch.connections.for_customer("acme")
    scene.things += [connection, connection.access_token, connection.details()]
    scene.things += list(scene.storage.real.for_customer("acme"))
    connection.access_token.reveal()


def _outcomes(scene: Scene) -> None:
    site: Site = scene.site
    callback = scene.fake.allow(scene.browser.location("acme"))
    cookie = "; ".join(f"{name}={value}" for name, value in scene.browser.cookies.items())
    request = CallbackRequest(query_string=callback.partition("?")[2], headers={"Cookie": cookie})
    first = site.finch.finish(request)
    again = site.finch.finish(request)
    scene.things += [request, first, again, *first.cookies]


ALL: dict[str, Scenario] = {
    **{
        f"exchange: {name}": functools.partial(_exchange, behaviour=b)
        for name, b in ANSWERED.items()
    },
    **{
        f"exchange: {name}": functools.partial(_deadline, behaviour=b)
        for name, b in ENDLESS.items()
    },
    **{f"begin: {name}": functools.partial(_opening, behaviour=b) for name, b in OPENED.items()},
    "return: wrong state": functools.partial(_bent, bend=lambda c: c[:-3] + "AAA"),
    "return: no state": functools.partial(_bent, bend=lambda c: c.partition("&state=")[0]),
    "return: state twice": functools.partial(_bent, bend=lambda c: c + "&state=x"),
    "return: code twice": functools.partial(_bent, bend=lambda c: c + "&code=x"),
    "return: with error": functools.partial(_bent, bend=lambda c: c + "&error=x"),
    "return: bad escape": functools.partial(_bent, bend=lambda c: c + "%"),
    "return: to another path": functools.partial(_bent, bend=lambda c: c.replace("?", "/?")),
    "return: posted as JSON": functools.partial(_posted, form=False),
    "return: posted as a form": functools.partial(_posted, form=True),
    "return: cross-site": functools.partial(_posted, form=True, sent_by="cross-site"),
    "return: HEAD": functools.partial(_asked, method="HEAD"),
    "return: OPTIONS": functools.partial(_asked, method="OPTIONS"),
    "return: PUT": functools.partial(_asked, method="PUT"),
    "return: prefetch": functools.partial(_asked, method="GET", Purpose="prefetch"),
    "return: POST of nothing": functools.partial(_asked, method="POST"),
    "return: POST too large": functools.partial(_asked, method="POST", body=b"x" * 9000),
    "return: half a JSON": functools.partial(_body, template='{"code": "CODE", "state": "STATE'),
    "return: JSON twice": functools.partial(_body, template='{"code": "CODE", "code": "CODE"}'),
    "return: JSON list": functools.partial(_body, template='["CODE", "STATE"]'),
    "return: JSON control": functools.partial(_body, template='{"code": "CODE\\u0000"}'),
    "return: declined": _declined,
    "return: invited": _invited,
    "return: expired": _expired,
    "return: stolen code": _stolen,
    "return: unknown code": _unknown_code,
    "storage: no claim": functools.partial(_down, methods=("claim", "attempt")),
    "storage: no settling": functools.partial(_down, methods=("settle",)),
    "storage: no reading": functools.partial(_down, methods=("attempt",)),
    "storage: no release": functools.partial(_down, methods=("release",)),
    "storage: away at begin": _begun_without_storage,
    "storage and spool: away": _all_lost,
    "storage: breaks its promise": _odd_error,
    "spool: drained later": _drained,
    "hook: on_connected raises": functools.partial(with_options, on_connected=_raising),
    "hook: on_event raises": functools.partial(with_options, on_event=_raising),
    "hook: on_problem raises": functools.partial(
        with_options, on_connected=_raising, on_problem=_raising
    ),
    "hook: render raises": functools.partial(with_options, render=_raising),
    "hook: customer_of raises": functools.partial(with_options, customer_of=_raising),
    "hook: customer_of returns None": functools.partial(
        with_options, customer_of=lambda request: None
    ),
    "webhook: signed": functools.partial(_delivered, signed=True),
    "webhook: signed by another": functools.partial(_delivered, signed=False),
    "hook: on_webhook raises": functools.partial(_delivered, signed=True, on_webhook=_raising),
    "application: misuse": _misused,
    "application: misconfigured": _misconfigured,
    "application: tampered row": _tampered,
    "application: reads the token": _read_back,
    "application: holds the outcome": _outcomes,
}
