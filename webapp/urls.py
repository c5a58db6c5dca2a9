"""Every address. This file, webapp/celery.py and webapp/wsgi.py alone know both `webapp` and `runs`."""

from django.urls import include, path, re_path

from runs.api import (
    controls_router,
    hosts_router,
    notifications_router,
    predictions_router,
    storage_router,
    tasks_router,
)
from runs.api import router as runs_router
from runs.urls import hosts_urlpatterns
from runs.views.overview import overview
from webapp.api import api, api_urls, docs, no_such_path
from webapp.catalog.api import router as models_router
from webapp.datasets.api import router as datasets_router
from webapp.datasets.browse_api import router as rows_router
from webapp.datasets.change_api import router as changes_router
from webapp.datasets.from_hub import router as from_hub_router
from webapp.datasets.from_uploads import router as from_uploads_router
from webapp.datasets.token_api import router as tokens_router
from webapp.health import healthz
from webapp.uploads.api import router as uploads_router

api.add_router("models", models_router)
api.add_router("datasets", datasets_router)
api.add_router("datasets", rows_router)
api.add_router("datasets", from_uploads_router)
api.add_router("datasets", from_hub_router)
api.add_router("datasets", changes_router)
api.add_router("datasets", tokens_router)
api.add_router("uploads", uploads_router)
api.add_router("tasks", tasks_router)
api.add_router("runs", runs_router)
api.add_router("runs", controls_router)
api.add_router("runs", predictions_router)
api.add_router("notifications", notifications_router)
api.add_router("storage", storage_router)
api.add_router("hosts", hosts_router)

urlpatterns = [
    path("", overview, name="overview"),
    path("accounts/", include("webapp.accounts.urls")),
    path("models/", include("webapp.catalog.urls")),
    path("datasets/", include("webapp.datasets.urls")),
    path("uploads/", include("webapp.uploads.urls")),
    path("runs/", include("runs.urls")),
    path("notifications/", include("runs.notifications.urls")),
    path("storage/", include("runs.housekeeping.urls")),
    path("hosts/", include((hosts_urlpatterns, "hosts"))),
    path("healthz", healthz, name="healthz"),
    path("api/docs/", docs, name="api_docs"),
    path("api/v1/", api_urls()),
    re_path(r"^api/", no_such_path),
]
