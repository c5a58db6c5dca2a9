from django.urls import path

from runs import downloads
from runs.views import controls, detail, hosts, housekeeping, listing, logs, new, predictions

app_name = "runs"
urlpatterns = [
    path("", listing.run_list, name="list"),
    path("new/", new.new, name="new"),
    path("delete/", housekeeping.delete_several, name="delete_several"),
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
    path("<int:pk>/log/", logs.log, name="log"),
    path("<int:pk>/log/new/", logs.new_lines, name="log_new"),
    path("<int:pk>/log/attempt-<int:attempt>.txt", logs.download, name="log_download"),
    path("<int:pk>/events/", logs.story, name="story"),
    path("<int:pk>/predictions/dataset/", predictions.make_dataset, name="predictions_dataset"),
    path("<int:pk>/delete/", housekeeping.delete, name="delete"),
    path("<int:pk>/keep/", housekeeping.keep, name="keep"),
    path("<int:pk>/model.zip", downloads.artifacts_zip, name="artifacts_zip"),
    path("<int:pk>/files/<path:name>", downloads.artifact, name="artifact"),
]
# Below hosts/, with names of their own: webapp/urls.py.
hosts_urlpatterns = [
    path("", hosts.host_list, name="list"),
    path("<int:pk>/", hosts.detail, name="detail"),
    path("<int:pk>/points/", hosts.points, name="points"),
    path("<int:pk>/drain/", hosts.drain, name="drain"),
    path("<int:pk>/resume/", hosts.resume, name="resume"),
    path("<int:pk>/cost/", hosts.cost, name="cost"),
    path("<int:pk>/remove/", hosts.remove, name="remove"),
]
