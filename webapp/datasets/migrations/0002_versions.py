"""Versions get a number, a parent, and what was found in them; changes are asked for and made by workers."""

import hashlib
import json
from typing import Any

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

PERSON = {
    "null": True,
    "on_delete": django.db.models.deletion.SET_NULL,
    "related_name": "+",
    "to": settings.AUTH_USER_MODEL,
}


def number_versions(apps: Any, schema_editor: Any) -> None:
    """In the order they were made; what was found stood with the dataset until now."""
    versions = apps.get_model("datasets", "DatasetVersion")
    numbers: dict[int, int] = {}
    for version in versions.objects.select_related("dataset").order_by("pk").iterator():
        numbers[version.dataset_id] = numbers.get(version.dataset_id, 0) + 1
        suggested = version.suggested or {}
        mapping = ""
        if suggested.get("task"):
            said = {"task": suggested["task"], "columns": suggested.get("columns") or {}}
            mapping = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]
        is_current = version.dataset.version_id == version.pk
        versions.objects.filter(pk=version.pk).update(
            number=numbers[version.dataset_id],
            mapping=mapping,
            problems=version.dataset.problems if is_current else [],
            created_by=version.dataset.created_by_id,
        )
    apps.get_model("datasets", "Dataset").objects.filter(status="ready").update(problems=[])


class Migration(migrations.Migration):
    dependencies = [
        ("datasets", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField("datasetversion", "number", models.IntegerField(default=1)),
        migrations.AddField("datasetversion", "change", models.JSONField(blank=True, default=dict)),
        migrations.AddField("datasetversion", "mapping", models.CharField(blank=True, max_length=32)),
        migrations.AddField("datasetversion", "problems", models.JSONField(blank=True, default=list)),
        migrations.AddField("datasetversion", "created_by", models.ForeignKey(**PERSON)),
        migrations.AddField(
            "datasetversion",
            "parent",
            models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="children",
                to="datasets.datasetversion",
            ),
        ),
        # Foreign keys are checked at the end of a transaction, and a table with checks to come cannot be altered.
        migrations.RunSQL("SET CONSTRAINTS ALL IMMEDIATE", migrations.RunSQL.noop),
        migrations.RunPython(number_versions, migrations.RunPython.noop),
        migrations.RunSQL("SET CONSTRAINTS ALL IMMEDIATE", migrations.RunSQL.noop),
        migrations.RemoveConstraint("datasetversion", "one_version_a_content"),
        migrations.AddConstraint(
            "datasetversion",
            models.UniqueConstraint(
                fields=("dataset", "content_hash", "mapping"), name="one_version_a_content_and_mapping"
            ),
        ),
        migrations.AddConstraint(
            "datasetversion",
            models.UniqueConstraint(fields=("dataset", "number"), name="one_version_a_number"),
        ),
        migrations.CreateModel(
            name="Change",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("claimed_by", models.CharField(blank=True, max_length=200)),
                ("lease_until", models.DateTimeField(blank=True, null=True)),
                ("attempts", models.IntegerField(default=0)),
                ("stage", models.CharField(blank=True, max_length=50)),
                ("progress_done", models.BigIntegerField(default=0)),
                ("progress_total", models.BigIntegerField(default=0)),
                ("row_version", models.BigIntegerField(default=1)),
                ("asked", models.JSONField()),
                ("title", models.CharField(max_length=300)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("waiting", "Being made"),
                            ("done", "Done"),
                            ("refused", "Cannot be made"),
                        ],
                        default="waiting",
                        max_length=12,
                    ),
                ),
                ("problems", models.JSONField(blank=True, default=list)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("created_by", models.ForeignKey(**PERSON)),
                (
                    "dataset",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="changes",
                        to="datasets.dataset",
                    ),
                ),
                (
                    "parent",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="datasets.datasetversion",
                    ),
                ),
                (
                    "result",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="datasets.datasetversion",
                    ),
                ),
            ],
            options={"ordering": ["-pk"]},
        ),
        migrations.AddConstraint(
            "change",
            models.UniqueConstraint(
                condition=models.Q(status="waiting"), fields=("dataset",), name="one_change_at_a_time"
            ),
        ),
    ]
