from django.urls import path

from webapp.catalog.views import adding, pages

app_name = "catalog"
urlpatterns = [
    path("", pages.model_list, name="list"),
    path("hub/", pages.hub_results, name="hub"),
    path("hub/add/", adding.add_hub_model, name="add_hub_model"),
    path("folder/add/", adding.add_folder, name="add_folder"),
    path("<slug:slug>/", pages.model_detail, name="detail"),
    path("<slug:slug>/remove/", adding.remove, name="remove"),
]
