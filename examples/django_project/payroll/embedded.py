"""The same addresses and two more: at /embedded Finch Connect opens inside the page."""

from __future__ import annotations

from pathlib import Path

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.static import serve
from shared import embedded

from payroll import urls, views

SCRIPTS = Path(__file__).parents[2] / "embedded"


def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse(embedded(views.home(request).content.decode()))


urlpatterns = [
    *urls.urlpatterns,
    path("embedded", home),
    path("connect.js", serve, {"path": "connect.js", "document_root": SCRIPTS}),
]
