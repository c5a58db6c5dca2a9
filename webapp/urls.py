"""Every address. This file and webapp/celery.py alone know both `webapp` and `runs`."""

urlpatterns: list[object] = []
