"""The project's URLs, Finch's among them."""

from __future__ import annotations

from django.urls import path

from finch_middleware.adapters.django import begin, callback, webhook
from payroll import views

urlpatterns = [
    path("", views.home),
    path("sign-in", views.sign_in_or_out),
    path("sign-out", views.sign_in_or_out),
    path("connect", begin(views.finch)),
    path("finch/callback", callback(views.finch)),
    path("finch/webhook", webhook(views.finch)),
]
