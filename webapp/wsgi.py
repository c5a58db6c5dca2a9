"""What the web server loads. WSGI: every view is plain, and threads serve long downloads well."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")

application = get_wsgi_application()

from webapp.database import end_forgotten_transactions  # noqa: E402 – needs the settings

end_forgotten_transactions()
