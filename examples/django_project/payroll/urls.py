"""Where each view stands, Finch's callback among them."""

from __future__ import annotations

from django.urls import path

from finch_middleware.adapters.django import callback, finch
from payroll import views

urlpatterns = [
    path("", views.home),
    path("sign-in", views.sign_in_or_out),
    path("sign-out", views.sign_in_or_out),
    path("connect", views.connect),
    path("finch/callback", callback(finch, customer_of=views.customer_of)),
]
