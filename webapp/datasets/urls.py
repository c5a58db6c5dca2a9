from django.urls import path

from webapp.datasets import browse_views, mapping_views, recording_views, views

app_name = "datasets"
urlpatterns = [
    path("", views.dataset_list, name="list"),
    path("upload/", views.upload, name="upload"),
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
    path("<int:pk>/mapping/", mapping_views.mapping, name="mapping"),
    path("<int:pk>/rename/", views.rename, name="rename"),
    path("<int:pk>/delete/", views.delete, name="delete"),
]
