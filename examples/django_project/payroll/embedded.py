"""The same URLs and two more: at /embedded, Finch Connect opens inside the page."""

from __future__ import annotations

import os
from pathlib import Path

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.static import serve

from payroll import urls, views

SDK_URL = os.environ.get("FINCH_SDK_URL", "https://prod-cdn.tryfinch.com/latest/connect.js")
SCRIPTS = f"""<script src="{SDK_URL}" defer></script>
<script src="/connect.js" data-callback="/finch/callback" defer></script>
"""
FOLDER = Path(__file__).parents[2] / "embedded"


def home(request: HttpRequest) -> HttpResponse:
    page = views.home(request).content.decode()
    return HttpResponse(page.replace("</head>", f"{SCRIPTS}</head>"))


urlpatterns = [
    *urls.urlpatterns,
    path("embedded", home),
    path("connect.js", serve, {"path": "connect.js", "document_root": FOLDER}),
]
