from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies: ClassVar[list[tuple[str, str]]] = []
    operations: ClassVar = [
        migrations.CreateModel(
            name="FinchAttempt",
            fields=[
                ("code_hash", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("flow_hash", models.CharField(max_length=64, null=True, unique=True)),
                ("attempt_id", models.CharField(max_length=64)),
                ("state", models.CharField(db_index=True, max_length=16)),
                ("notified", models.BooleanField()),
                ("leased_until", models.DateTimeField()),
                ("settled_at", models.DateTimeField(db_index=True, null=True)),
                ("row", models.TextField()),
            ],
        ),
        migrations.CreateModel(
            name="FinchConnection",
            fields=[
                (
                    "connection_hash",
                    models.CharField(max_length=64, primary_key=True, serialize=False),
                ),
                ("customer_hash", models.CharField(db_index=True, max_length=64)),
                ("obtained_at", models.DateTimeField()),
                ("row", models.TextField()),
            ],
        ),
        migrations.CreateModel(
            name="FinchStoredEvent",
            fields=[
                ("event_hash", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("received_at", models.DateTimeField(db_index=True)),
                ("row", models.TextField()),
            ],
        ),
    ]
