"""All settings, in one file, from the environment.

Defaults suit a laptop; `STRIPEMETER_ENV=production` refuses to start on anything unsafe
(see `stripemeter.checks`). docs/configuration.md describes every variable.
"""

import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from csp.constants import NONCE
from django.templatetags.static import static

from stripemeter.lib.env import (
    ConfigurationError,
    database_from_url,
    env_bool,
    env_int,
    env_list,
    env_str,
)
from stripemeter.production import refusals
from stripemeter.runtime import env as runtime_env

BASE_DIR = Path(__file__).resolve().parent.parent

# The embedded runtime leaves the addresses and generated secrets of its parts there, so
# that every later command in the same checkout finds them.
runtime_env.load()
RUNTIME_DIR = runtime_env.runtime_folder()

ENV = env_str("STRIPEMETER_ENV", "development")
if ENV not in {"development", "demo", "test", "production"}:
    raise ConfigurationError("STRIPEMETER_ENV must be development, demo, test or production")
PRODUCTION = ENV == "production"

DEBUG = env_bool("STRIPEMETER_DEBUG")
VERSION = "1.0.0"

# --- Secrets ---------------------------------------------------------------------------
# Outside production, fixed development values keep tokens valid over restarts; production
# refuses them.
_DEVELOPMENT_SECRET = "development-only-" + "x" * 40


def _secret(name: str) -> str:
    value = env_str(name)
    if not value and PRODUCTION:
        raise ConfigurationError(f"{name} must be set in production (at least 32 characters)")
    return value or f"{_DEVELOPMENT_SECRET}-{name.lower()}"


SECRET_KEY = _secret("STRIPEMETER_SECRET_KEY")
API_KEY_PEPPER = _secret("STRIPEMETER_API_KEY_PEPPER")
WIDGET_SIGNING_KEY = _secret("STRIPEMETER_WIDGET_SIGNING_KEY")

# --- Hosts and proxies -----------------------------------------------------------------
ALLOWED_HOSTS = env_list("STRIPEMETER_ALLOWED_HOSTS", "" if PRODUCTION else "*")
PUBLIC_URL = env_str("STRIPEMETER_PUBLIC_URL", "http://127.0.0.1:3000").rstrip("/")
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
#: Addresses of proxies whose X-Forwarded-For is believed.
TRUSTED_PROXIES = env_list("STRIPEMETER_TRUSTED_PROXIES")
#: Networks that see /metrics, readiness in detail and /docs in production.
INTERNAL_NETWORKS = env_list("STRIPEMETER_INTERNAL_NETWORKS", "127.0.0.0/8,::1/128")
#: A bearer token that opens /metrics and readiness from anywhere, for a remote Prometheus.
METRICS_TOKEN = env_str("STRIPEMETER_METRICS_TOKEN")
if env_bool("STRIPEMETER_BEHIND_TLS_PROXY", default=PRODUCTION):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = True
    SECURE_REDIRECT_EXEMPT = [r"^health", r"^metrics$"]
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True

# --- Demo ------------------------------------------------------------------------------
#: The demo answers requests without a key for this tenant, from loopback only.
OPEN_DEMO_TENANT = env_str("STRIPEMETER_OPEN_DEMO_TENANT")

# --- Applications ----------------------------------------------------------------------
INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "axes",
    "csp",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_htmx",
    "django_celery_beat",
    "djstripe",
    "stripemeter",
    "stripemeter.tenancy",
    "ledger",
    "counters",
    "billing",
    "reconciliation",
    "widget",
]

MIDDLEWARE = [
    "stripemeter.middleware.RequestEdgeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "stripemeter.tenancy.sessions.SessionLifeMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "stripemeter.urls"
WSGI_APPLICATION = "stripemeter.wsgi.application"
# Stripe and older callers post to the exact path; a redirect would lose the body.
APPEND_SLASH = False

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
                "stripemeter.ops.navigation.frame",
            ],
        },
    },
]

# --- Database --------------------------------------------------------------------------
_database_url = env_str("DATABASE_URL", "postgresql:///stripemeter")
if env_str("STRIPEMETER_DB_ROLE") == "owner":
    _database_url = env_str("DATABASE_OWNER_URL", _database_url)
DATABASE_POOLER = env_bool("DATABASE_POOLER")
_statement_timeout_ms = env_int("STRIPEMETER_STATEMENT_TIMEOUT_MS", 0)

DATABASES: dict[str, dict[str, Any]] = {"default": database_from_url(_database_url)}
DATABASES["default"].update(CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)
DATABASES["default"]["OPTIONS"] |= {
    # READ COMMITTED is what ON CONFLICT and the fold rest on (docs of both).
    "isolation_level": 2,
    # Small posts pay for planning otherwise; set DATABASE_POOLER=1 behind a transaction pooler.
    "prepare_threshold": None if DATABASE_POOLER else 2,
    "server_side_binding": True,
    "application_name": "stripemeter",
    "connect_timeout": 5,
    "options": "-c timezone=UTC -c synchronous_commit=on -c lock_timeout=10s"
    f" -c statement_timeout={_statement_timeout_ms}"
    " -c idle_in_transaction_session_timeout=60s -c jit=off"
    # Row-level security: API requests narrow this to their tenant (stripemeter.lib.rowsecurity).
    " -c stripemeter.tenant=all",
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# dj-stripe's own migrations take minutes; one generated migration holds the same tables.
MIGRATION_MODULES = {"djstripe": "stripemeter.djstripe_migrations"}

# --- Redis and Celery ------------------------------------------------------------------
REDIS_URL = env_str("REDIS_URL", "redis://127.0.0.1:6379/0")
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "OPTIONS": {"socket_timeout": 0.25, "socket_connect_timeout": 0.25},
    },
}
CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_TIME_LIMIT = 600
CELERY_TASK_SOFT_TIME_LIMIT = 540
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "stripemeter.beating:BeatingScheduler"
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

# --- Authentication of operators -------------------------------------------------------
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
LOGIN_URL = "admin:login"
LOGOUT_REDIRECT_URL = "admin:login"
AXES_FAILURE_LIMIT = 8
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"], "ip_address"]
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False
AXES_LOCKOUT_TEMPLATE = "ops/locked.html"
AXES_CLIENT_IP_CALLABLE = "stripemeter.lib.addresses.request_address"
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_IDLE_SECONDS = 30 * 60
CSRF_COOKIE_HTTPONLY = False
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"

# --- Limits ----------------------------------------------------------------------------
API_BODY_LIMIT_BYTES = env_int("API_BODY_LIMIT_BYTES", 1_048_576)
INGEST_BODY_LIMIT_BYTES = env_int("INGEST_BODY_LIMIT_BYTES", 1_048_576)
BACKFILL_BODY_LIMIT_BYTES = env_int("BACKFILL_BODY_LIMIT_BYTES", 1_048_576)
BACKFILL_UPLOAD_LIMIT_BYTES = env_int("BACKFILL_UPLOAD_LIMIT_BYTES", 512 * 1_048_576)
RECONCILIATION_BODY_LIMIT_BYTES = env_int("RECONCILIATION_BODY_LIMIT_BYTES", 262_144)
WEBHOOK_BODY_LIMIT_BYTES = env_int("WEBHOOK_BODY_LIMIT_BYTES", 524_288)
MAX_INGEST_BATCH = env_int("MAX_INGEST_BATCH", 1_000, low=1, high=10_000)
MAX_EVENT_META_BYTES = env_int("MAX_EVENT_META_BYTES", 4_096)
MAX_BACKFILL_EVENTS = env_int("MAX_BACKFILL_EVENTS", 5_000)
#: What an event may carry: Stripe refuses meter values of more than 15 digits.
QUANTITY_DIGITS_MAX = env_int("QUANTITY_DIGITS_MAX", 15, low=1, high=15)
QUANTITY_DECIMALS_MAX = env_int("QUANTITY_DECIMALS_MAX", 6, low=0, high=12)
TENANT_RATE_LIMIT = env_int("TENANT_RATE_LIMIT", 6_000, high=10_000_000)
TENANT_RATE_LIMIT_WINDOW = env_int("TENANT_RATE_LIMIT_WINDOW", 60, low=1, high=3_600)
#: Requests a window of one key, below its tenant's limit; 0 leaves the tenant's limit alone.
KEY_RATE_LIMIT = env_int("KEY_RATE_LIMIT", 0, high=10_000_000)
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 1_048_576
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1_000

# --- Metering --------------------------------------------------------------------------
LATE_EVENT_WINDOW_HOURS = env_int("LATE_EVENT_WINDOW_HOURS", 48, high=24 * 34)
FUTURE_TOLERANCE_SECONDS = env_int("FUTURE_TOLERANCE_SECONDS", 3_600)
PUSH_INTERVAL_SECONDS = env_int("PUSH_INTERVAL_SECONDS", 60, low=1)
RECONCILIATION_INTERVAL_SECONDS = env_int("RECONCILIATION_INTERVAL_SECONDS", 3_600, low=1)
#: Stripe's summaries lag behind what it took: younger pushes may be missing there.
RECONCILIATION_SETTLING_SECONDS = env_int("RECONCILIATION_SETTLING_SECONDS", 900)

#: Where the newest seal of each tenant is noted, best on another machine's disk; "" nowhere.
SEAL_ANCHOR_FILE = env_str("STRIPEMETER_SEAL_ANCHOR_FILE")

# --- Webhooks out ----------------------------------------------------------------------
#: Deliveries may go to private addresses and plain http: for development and closed networks.
WEBHOOK_ALLOW_PRIVATE = env_bool("WEBHOOK_ALLOW_PRIVATE")

# --- Stripe ----------------------------------------------------------------------------
STRIPE_SECRET_KEY = env_str("STRIPE_SECRET_KEY")
STRIPE_TEST_SECRET_KEY = env_str("STRIPE_TEST_SECRET_KEY")
#: Where Stripe's API is; the demo and the tests point it at the local sandbox.
STRIPE_API_BASE = env_str("STRIPE_API_BASE", "https://api.stripe.com")
STRIPE_METER_EVENTS_BASE = env_str("STRIPE_METER_EVENTS_BASE", "https://meter-events.stripe.com")
STRIPE_API_VERSION = "2026-08-26.dahlia"
_real_stripe = STRIPE_API_BASE == "https://api.stripe.com"
#: Calls a second per account: half of Stripe's limit for live meter events (1,000/s, not for
#: connected accounts), a little below the 25/s of its test side. A sandbox has no limit.
STRIPE_PUSH_RATE_LIVE = env_int("STRIPE_PUSH_RATE_LIVE", 500 if _real_stripe else 5_000, low=1)
STRIPE_PUSH_RATE_TEST = env_int("STRIPE_PUSH_RATE_TEST", 20 if _real_stripe else 5_000, low=1)
#: Stripe rations reads: 25 a second and endpoint, 10,000 a month at least. 0: no limit.
STRIPE_READS_PER_SECOND = env_int("STRIPE_READS_PER_SECOND", 25 if _real_stripe else 0)
STRIPE_READS_PER_MONTH = env_int("STRIPE_READS_PER_MONTH", 10_000 if _real_stripe else 0)
STRIPE_READ_THREADS = env_int("STRIPE_READ_THREADS", 8, low=1, high=64)
#: From this many due pushes of an account on, customers that Stripe knows are caught up over
#: the v2 stream, 100 a call; 0: never. Its rejections come later, by meter error reports.
STRIPE_BULK_FROM = env_int("STRIPE_BULK_FROM", 400)
#: Calls under way at once in one worker process.
STRIPE_PUSH_THREADS = env_int("STRIPE_PUSH_THREADS", 16, low=1, high=64)
#: Where the high-water marks of pushing are kept beside Redis, out of reach of a restore.
PUSH_ANCHOR_DIR = env_str("PUSH_ANCHOR_DIR", str(RUNTIME_DIR / "push-anchors"))
STRIPE_WEBHOOK_SECRETS = env_list("STRIPE_WEBHOOK_SECRET")
STRIPE_LIVE_SECRET_KEY = STRIPE_SECRET_KEY
STRIPE_LIVE_MODE = bool(STRIPE_SECRET_KEY)
if STRIPE_API_BASE != "https://api.stripe.com":
    STRIPE_API_HOST = STRIPE_API_BASE  # dj-stripe's name for it; it warns when it is there
    if not PRODUCTION:
        SILENCED_SYSTEM_CHECKS = ["djstripe.W002"]  # the sandbox is meant
DJSTRIPE_FOREIGN_KEY_TO_FIELD = "id"

# --- HTTP API --------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["stripemeter.tenancy.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["stripemeter.tenancy.authentication.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["stripemeter.lib.drf.ExactJSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["stripemeter.lib.drf.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "stripemeter.lib.openapi.Schema",
    "EXCEPTION_HANDLER": "stripemeter.lib.drf.problem_handler",
    "UNAUTHENTICATED_USER": None,
    "URL_FORMAT_OVERRIDE": None,
    "COERCE_DECIMAL_TO_STRING": False,
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "StripeMeter API",
    "DESCRIPTION": (
        "Exact usage metering in front of Stripe. Quantities are JSON numbers, digit for "
        "digit; add `?decimals=string` to get strings. Refusals are `application/problem+json` "
        "with a stable `code`."
    ),
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_ADD_EXPLICIT_BLANK_NULL_CHOICE": False,
    "SERVERS": [{"url": PUBLIC_URL}],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "stripemeter.lib.openapi.complete",
        "stripemeter.apidocs.complete_by_hand",
    ],
}

# --- Files, language, time -------------------------------------------------------------
STATIC_URL = "/static/"
STATIC_ROOT = Path(env_str("STRIPEMETER_STATIC_ROOT", str(BASE_DIR / "staticfiles")))
STATICFILES_DIRS = [BASE_DIR / "static"]
MEDIA_ROOT = Path(env_str("STRIPEMETER_FILES_DIR", str(RUNTIME_DIR / "files")))
_static_backend = (
    "whitenoise.storage.CompressedManifestStaticFilesStorage"
    if PRODUCTION
    else "django.contrib.staticfiles.storage.StaticFilesStorage"
)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": _static_backend},
}
WHITENOISE_USE_FINDERS = not PRODUCTION
LANGUAGE_CODE = "en"
LANGUAGES = [
    ("en", "English"),
    ("de", "Deutsch"),
    ("es", "Español"),
    ("fr", "Français"),
    ("ja", "日本語"),
]
LOCALE_PATHS = [BASE_DIR / "widget" / "locale"]
USE_I18N = True
FORMAT_MODULE_PATH = "stripemeter.formats"
USE_TZ = True
TIME_ZONE = "UTC"

# --- Mail ------------------------------------------------------------------------------
EMAIL_BACKEND = env_str("EMAIL_BACKEND", "django.core.mail.backends.console.EmailBackend")
EMAIL_HOST = env_str("EMAIL_HOST", "localhost")
EMAIL_PORT = env_int("EMAIL_PORT", 25)
DEFAULT_FROM_EMAIL = env_str("DEFAULT_FROM_EMAIL", "stripemeter@localhost")

# --- Content Security Policy -----------------------------------------------------------
# No 'unsafe-inline' and no 'unsafe-eval' anywhere. The admin's theme writes its colours into
# one style element, hence the nonce; its Alpine.js is the CSP build (see
# templates/unfold/layouts/skeleton.html).
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "script-src": ["'self'"],
        "style-src": ["'self'", NONCE],
        "img-src": ["'self'", "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}

# --- Logs ------------------------------------------------------------------------------
LOG_LEVEL = env_str("LOG_LEVEL", "INFO").upper()
LOG_FORMAT = env_str("LOG_FORMAT", "json" if PRODUCTION else "console")
LOGGING_CONFIG = None

from stripemeter.lib.logs import configure as _configure_logs  # noqa: E402
from stripemeter.lib.logs import hide as _hide_in_logs  # noqa: E402

_configure_logs(level=LOG_LEVEL, json=LOG_FORMAT == "json")
_hide_in_logs(
    SECRET_KEY,
    API_KEY_PEPPER,
    WIDGET_SIGNING_KEY,
    METRICS_TOKEN,
    STRIPE_SECRET_KEY,
    STRIPE_TEST_SECRET_KEY,
    *STRIPE_WEBHOOK_SECRETS,
    str(DATABASES["default"].get("PASSWORD") or ""),
    urlsplit(REDIS_URL).password or "",
)

# --- Traces and defect reports (both off unless asked for) -------------------------------
TRACES = env_bool("STRIPEMETER_TRACES")
SENTRY_DSN = env_str("SENTRY_DSN")
SENTRY_TRACES_SAMPLE_RATE = env_str("SENTRY_TRACES_SAMPLE_RATE", "0")

# --- Metrics ---------------------------------------------------------------------------
# Web processes and worker children add to the same numbers through files in this folder;
# prometheus_client reads the variable when it is first imported, which is after this.
# Commands and tests count nothing that is scraped.
_serves = Path(sys.argv[0]).name != "manage.py" and "pytest" not in sys.modules
_metrics_dir = env_str("PROMETHEUS_MULTIPROC_DIR") or (
    str(RUNTIME_DIR / "metrics") if _serves else ""
)
if _metrics_dir:
    try:
        Path(_metrics_dir).mkdir(parents=True, exist_ok=True)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = _metrics_dir
    except OSError:
        # A read-only folder: each process then has numbers of its own.
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)

# --- Unfold (admin shell) --------------------------------------------------------------
UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "StripeMeter",
    "SITE_HEADER": "StripeMeter",
    "SITE_URL": "/",
    "SITE_ICON": lambda request: static("img/mark.svg"),
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("img/mark.svg")},
    ],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SIDEBAR": {"navigation": "stripemeter.ops.records.sidebar"},
    # The accent of the operators' pages (static/css/tokens.css), lighter and darker.
    "COLORS": {
        "primary": {
            "50": "#eef2ff", "100": "#e0e7ff", "200": "#c7d2fe", "300": "#a5b4fc",
            "400": "#748ffc", "500": "#5c7cfa", "600": "#3b5bdb", "700": "#2b4bbf",
            "800": "#263fa0", "900": "#1f3278", "950": "#141f4d",
        },
    },
}  # fmt: skip

# --- Tests -----------------------------------------------------------------------------
#: Named crash points of the fault tests; nothing outside tests may switch them on.
FAULT_POINTS = env_str("STRIPEMETER_FAULT_POINTS")
#: A file with seconds by which the clock of tests is moved.
CLOCK_OFFSET_FILE = env_str("CLOCK_OFFSET_FILE")

TESTING = ENV == "test" or "pytest" in sys.modules

# --- Production ------------------------------------------------------------------------
if PRODUCTION:
    _refusals = refusals(globals())
    if _refusals:
        _lines = [f"  {found.id}: {found.message}. {found.hint}" for found in _refusals]
        raise ConfigurationError("Production refuses to start:\n" + "\n".join(_lines))
