"""The Celery application. Messages only wake workers up; Postgres has every fact (DESIGN §1)."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")

app = Celery("tuneboard")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["webapp.datasets"], related_name="tasks")
app.autodiscover_tasks(["runs.execution"], related_name="tasks")
