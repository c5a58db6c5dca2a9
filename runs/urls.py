from django.urls import path

from runs import downloads
from runs.views import detail, hosts, listing, new

app_name = "runs"
urlpatterns = [
    path("", listing.run_list, name="list"),
    path("new/", new.new, name="new"),
    path("<int:pk>/", detail.detail, name="detail"),
    path("<int:pk>/points/", detail.points, name="points"),
    path("<int:pk>/cancel/", detail.cancel, name="cancel"),
    path("<int:pk>/pause/", detail.pause, name="pause"),
    path("<int:pk>/resume/", detail.resume, name="resume"),
    path("<int:pk>/retry/", detail.retry, name="retry"),
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
