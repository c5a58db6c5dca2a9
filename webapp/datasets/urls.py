from django.urls import path

from webapp.datasets import (
    browse_views,
    change_views,
    hub_views,
    mapping_views,
    recording_views,
    split_views,
    token_views,
    views,
)

app_name = "datasets"
urlpatterns = [
    path("", views.dataset_list, name="list"),
    path("upload/", views.upload, name="upload"),
    path("from-hub/", hub_views.from_hub, name="from_hub"),
    path("samples/<slug:slug>/", views.use_sample, name="use_sample"),
    path("<int:pk>/", views.detail, name="detail"),
    path("<int:pk>/progress/", views.progress, name="progress"),
    path("<int:pk>/pictures/<slug:name>/", views.picture, name="picture"),
    path("<int:pk>/rows/", browse_views.browse, name="browse"),
    path("<int:pk>/rows/<slug:split>/<int:row>/<int:column>/", browse_views.row_picture, name="row_picture"),
    path("<int:pk>/download/<slug:kind>/", browse_views.download, name="download"),
    path(
        "<int:pk>/recordings/<slug:split>/<int:row>/<int:column>/",
        recording_views.recording,
        name="recording",
    ),
    path("<int:pk>/changes/", change_views.change, name="change"),
    path("<int:pk>/classes/<int:column>/", change_views.classes, name="classes"),
    path("<int:pk>/split/", split_views.split, name="split"),
    path("<int:pk>/files/", change_views.add_files, name="add_files"),
    path("<int:pk>/versions/<int:number>/use/", change_views.use_version, name="use_version"),
    path("<int:pk>/tokens/", token_views.token_lengths, name="token_lengths"),
    path("<int:pk>/tokens/count/", token_views.count_tokens, name="count_tokens"),
    path("<int:pk>/mapping/", mapping_views.mapping, name="mapping"),
    path("<int:pk>/rename/", views.rename, name="rename"),
    path("<int:pk>/delete/", views.delete, name="delete"),
]
