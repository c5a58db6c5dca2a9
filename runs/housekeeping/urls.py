from django.urls import path

from runs.views import housekeeping

app_name = "housekeeping"
urlpatterns = [
    path("", housekeeping.page, name="page"),
    path("preview/", housekeeping.preview, name="preview"),
    path("save/", housekeeping.save, name="save"),
    path("reset/", housekeeping.reset, name="reset"),
    path("count/", housekeeping.count, name="count"),
    path("site/", housekeeping.site, name="site"),
    path("site/preview/", housekeeping.site_preview, name="site_preview"),
    path("site/save/", housekeeping.site_save, name="site_save"),
    path("left-over/", housekeeping.orphan_list, name="orphans"),
    path("left-over/delete/", housekeeping.delete_orphans, name="delete_orphans"),
]
