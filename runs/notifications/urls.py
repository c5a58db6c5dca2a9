from django.urls import path

from runs.views import notifications

app_name = "notifications"
urlpatterns = [
    path("", notifications.notification_list, name="list"),
    path("read/", notifications.mark_all_read, name="mark_all_read"),
    path("new/", notifications.news, name="news"),
    path("<int:pk>/", notifications.open_notification, name="open"),
    path("settings/", notifications.notification_settings, name="settings"),
    path("settings/browser/", notifications.save_browser, name="save_browser"),
    path("settings/email/", notifications.save_email, name="save_email"),
    path("webhooks/add/", notifications.add_webhook, name="add_webhook"),
    path("channels/<int:pk>/", notifications.channel, name="channel"),
    path("channels/<int:pk>/test/", notifications.send_test, name="send_test"),
    path("channels/<int:pk>/secret/", notifications.new_secret, name="new_secret"),
    path("channels/<int:pk>/remove/", notifications.remove_channel, name="remove_channel"),
    path("deliveries/<int:pk>/send/", notifications.send_again, name="send_again"),
]
