from django.urls import path

from runs.views import listing

app_name = "runs"
urlpatterns = [
    path("", listing.run_list, name="list"),
]
