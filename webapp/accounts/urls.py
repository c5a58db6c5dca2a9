from django.urls import path

from webapp.accounts.views import limits, profile, session, workspace

app_name = "accounts"
urlpatterns = [
    path("sign-in/", session.SignIn.as_view(), name="sign_in"),
    path("sign-out/", session.SignOut.as_view(), name="sign_out"),
    path("link/<str:secret>/", session.link, name="link"),
    path("profile/", profile.profile, name="profile"),
    path("profile/save/", profile.save_profile, name="save_profile"),
    path("profile/password/", profile.set_password, name="set_password"),
    path("profile/tokens/", profile.create_token, name="create_token"),
    path("profile/tokens/<int:pk>/revoke/", profile.revoke_token, name="revoke_token"),
    path("workspace/", workspace.workspace, name="workspace"),
    path("workspace/switch/", workspace.switch_workspace, name="switch_workspace"),
    path("workspace/new/", workspace.create_workspace, name="create_workspace"),
    path("workspace/members/", workspace.add_member, name="add_member"),
    path("workspace/members/<int:pk>/", workspace.change_member, name="change_member"),
    path("workspace/members/<int:pk>/remove/", workspace.remove_member, name="remove_member"),
    path("workspaces/", limits.limits, name="limits"),
    path("workspaces/<int:pk>/", limits.set_limits, name="set_limits"),
]
