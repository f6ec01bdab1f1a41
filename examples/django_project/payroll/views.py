"""The application's own views, and the component that Finch's views are made of."""

from __future__ import annotations

from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.middleware.csrf import get_token
from django.views.decorators.http import require_GET, require_POST
from shared import EMPLOYERS, connections_now, home_page, signed_in

from finch_middleware import CallbackRequest, Customer, FinchConnect


def customer_of(request: CallbackRequest) -> Customer | None:
    return signed_in(SessionStore(dict(request.cookies()).get("sessionid")))


finch = FinchConnect.from_env(customer_of=customer_of, begin_path="/connect")


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    customer = signed_in(request.session)
    listed, hint = connections_now(finch, customer), request.GET.get("finch")
    page = home_page(
        customer,
        connections=listed,
        hint=hint,
        csrf_token=get_token(request),
        csrf_field="csrfmiddlewaretoken",
    )
    return HttpResponse(page)


@require_POST
def sign_in_or_out(request: HttpRequest) -> HttpResponse:
    request.session.flush()
    if (customer_id := request.POST.get("customer_id")) in EMPLOYERS:
        request.session["customer_id"] = customer_id
    return HttpResponseRedirect("/")
