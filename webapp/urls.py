"""Every address. This file and webapp/celery.py alone know both `webapp` and `runs`."""

from django.urls import include, path

from runs.views.overview import overview

urlpatterns = [
    path("", overview, name="overview"),
    path("accounts/", include("webapp.accounts.urls")),
    path("models/", include("webapp.catalog.urls")),
    path("datasets/", include("webapp.datasets.urls")),
    path("runs/", include("runs.urls")),
]
