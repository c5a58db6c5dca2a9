from django.urls import path

from runs import downloads
from runs.views import detail, housekeeping, listing, new

app_name = "runs"
urlpatterns = [
    path("", listing.run_list, name="list"),
    path("new/", new.new, name="new"),
    path("delete/", housekeeping.delete_several, name="delete_several"),
    path("<int:pk>/", detail.detail, name="detail"),
    path("<int:pk>/points/", detail.points, name="points"),
    path("<int:pk>/cancel/", detail.cancel, name="cancel"),
    path("<int:pk>/pause/", detail.pause, name="pause"),
    path("<int:pk>/resume/", detail.resume, name="resume"),
    path("<int:pk>/retry/", detail.retry, name="retry"),
    path("<int:pk>/delete/", housekeeping.delete, name="delete"),
    path("<int:pk>/keep/", housekeeping.keep, name="keep"),
    path("<int:pk>/model.zip", downloads.artifacts_zip, name="artifacts_zip"),
    path("<int:pk>/files/<path:name>", downloads.artifact, name="artifact"),
]
