from django.urls import path

from runs import downloads
from runs.views import controls, detail, listing, new

app_name = "runs"
urlpatterns = [
    path("", listing.run_list, name="list"),
    path("new/", new.new, name="new"),
    path("<int:pk>/", detail.detail, name="detail"),
    path("<int:pk>/points/", detail.points, name="points"),
    path("<int:pk>/cancel/", controls.cancel, name="cancel"),
    path("<int:pk>/pause/", controls.pause, name="pause"),
    path("<int:pk>/resume/", controls.resume, name="resume"),
    path("<int:pk>/retry/", controls.retry, name="retry"),
    path("<int:pk>/extend/", controls.extend, name="extend"),
    path("<int:pk>/priority/", controls.priority, name="priority"),
    path("<int:pk>/start/", controls.start, name="start"),
    path("<int:pk>/waiting/", detail.waiting, name="waiting"),
    path("<int:pk>/model.zip", downloads.artifacts_zip, name="artifacts_zip"),
    path("<int:pk>/files/<path:name>", downloads.artifact, name="artifact"),
]
