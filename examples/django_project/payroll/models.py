"""The tables of examples/custom_storage.py. They hold only ciphertext and hashes."""

from __future__ import annotations

from typing import Any

from django.db import models


class FinchAttempt(models.Model):
    """The claim of one code, and how the attempt ended."""

    code_hash: Any = models.CharField(max_length=64, primary_key=True)
    flow_hash: Any = models.CharField(max_length=64, null=True, unique=True)
    attempt_id: Any = models.CharField(max_length=64)
    state: Any = models.CharField(max_length=16, db_index=True)
    notified: Any = models.BooleanField()
    leased_until: Any = models.DateTimeField()
    settled_at: Any = models.DateTimeField(null=True, db_index=True)
    row: Any = models.TextField()


class FinchConnection(models.Model):
    """A connected payroll with its sealed token, and the columns that are searched."""

    connection_hash: Any = models.CharField(max_length=64, primary_key=True)
    customer_hash: Any = models.CharField(max_length=64, db_index=True)
    obtained_at: Any = models.DateTimeField()
    row: Any = models.TextField()


class FinchStoredEvent(models.Model):
    """That an event of Finch was received, to recognise its repetitions."""

    event_hash: Any = models.CharField(max_length=64, primary_key=True)
    received_at: Any = models.DateTimeField(db_index=True)
    row: Any = models.TextField()
