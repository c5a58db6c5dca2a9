from django.urls import path

from webapp.uploads import views

app_name = "uploads"
urlpatterns = [
    path("", views.collection, name="collection"),
    path("<uuid:pk>/", views.single, name="single"),
    path("<uuid:pk>/discard/", views.discard, name="discard"),
]
