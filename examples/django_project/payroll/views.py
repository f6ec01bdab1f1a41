"""The application's own views."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseForbidden, HttpResponseRedirect
from django.middleware.csrf import get_token
from django.views.decorators.http import require_GET, require_POST
from shared import EMPLOYERS, home_page

from finch_middleware import Away
from finch_middleware.adapters.django import finch, to_django


def customer_of(request: HttpRequest) -> str | None:
    return request.session.get("customer_id")


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    listed, hint = finch().connections.for_customer, request.GET.get("finch")
    page = home_page(
        customer_of(request),
        connections_of=listed,
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


@require_POST
def connect(request: HttpRequest) -> HttpResponse:
    if (customer_id := customer_of(request)) is None:
        return HttpResponseForbidden()
    name = EMPLOYERS[customer_id]
    try:
        opened = finch().begin(request=request, customer_id=customer_id, customer_name=name)
    except Away as away:
        return to_django(away.response())
    return to_django(opened)
