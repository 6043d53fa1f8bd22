"""The WSGI entry point: ``granian --interface wsgi stripemeter.wsgi:application``."""

import gc
import os

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "stripemeter.settings")

application = get_wsgi_application()

# Every route's module is imported before the first request waits for it.
_ = get_resolver().url_patterns
# A full collection walks everything that is loaded, which stops all threads for tens of
# milliseconds; what is loaded now stays for good, so it is left out. A batch makes thousands of
# objects that are gone with its answer: collecting among them more rarely costs nothing.
gc.collect()
gc.freeze()
gc.set_threshold(20_000, 20, 20)
