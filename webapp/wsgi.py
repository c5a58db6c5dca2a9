"""What the web server loads. WSGI: every view is plain, and threads serve long downloads well."""

import os
import threading

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
application = get_wsgi_application()

from runs.execution.admission import announce_until_heard  # noqa: E402 – needs the settings
from webapp.allocator import keep_blocks  # noqa: E402
from webapp.database import end_forgotten_transactions  # noqa: E402 – needs the settings

keep_blocks()
threading.Thread(target=announce_until_heard, name="announce", daemon=True).start()
end_forgotten_transactions()
