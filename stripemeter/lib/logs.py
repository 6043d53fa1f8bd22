"""Structured logs: one event name per fact (``push.retried``) with ids, never secrets."""

import logging
import logging.config
import re
from collections.abc import Mapping, MutableMapping
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import structlog

from stripemeter.lib import requestid

_SECRET = re.compile(
    r"(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{8,}|sm_(?:live|test)_[A-Za-z0-9_-]{8,}"
    r"|whsec_[A-Za-z0-9+/=_-]{8,}|(?i:bearer\s+)[A-Za-z0-9._~+/=-]{8,}"
    r"|postgres(?:ql)?://[^\s@/]+:[^\s@/]+@"
)
_SECRET_NAMES = frozenset(
    {
        "password", "secret", "token", "api_key", "authorization", "plaintext", "cookie",
        "stripe_signature", "x_api_key",
    }
)  # fmt: skip
_MASK = "[redacted]"
_DEPTH_MAX = 12
#: A shorter text is no secret, and hiding it would spoil every line.
_HIDDEN_CHARS_MIN = 8
_hidden: list[str] = []


def hide(*values: str) -> None:
    """From now on these very texts (configured secrets) are replaced wherever they are logged."""
    found = {*_hidden, *(value for value in values if len(value) >= _HIDDEN_CHARS_MIN)}
    _hidden[:] = sorted(found, key=len, reverse=True)


def redact(text: str) -> str:
    """``text`` with every configured secret, and whatever looks like a credential, replaced."""
    for value in _hidden:
        if value in text:
            text = text.replace(value, _MASK)
    return _SECRET.sub(_MASK, text)


def redact_deep(value: Any, depth: int = 0) -> Any:
    """``value`` with every text in it redacted, and what has a secret's name hidden whole."""
    if depth > _DEPTH_MAX:
        return _MASK
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, bytes):
        return redact(value.decode("utf-8", "replace"))
    if isinstance(value, Mapping):
        return {
            name: _MASK if _names_secret(name) else redact_deep(member, depth + 1)
            for name, member in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact_deep(member, depth + 1) for member in value]
    if value is None or isinstance(value, bool | int | float | Decimal | UUID | date):
        return value
    return redact(repr(value))


def _names_secret(name: Any) -> bool:
    return str(name).lower().replace("-", "_") in _SECRET_NAMES


def _redact_event(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if name[:1] != "_":  # what structlog itself hands on
            event[name] = _MASK if _names_secret(name) else redact_deep(value)
    return event


def _add_request_id(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    current = requestid.current()
    if current:
        event.setdefault("request_id", current)
    return event


def configure(*, level: str, json: bool) -> None:
    """Send structlog and standard logging through one chain to standard error."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _add_request_id,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact_event,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": shared,
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    }
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"structured": formatter},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
            "root": {"handlers": ["stderr"], "level": level},
            "loggers": {
                "django.request": {"level": "ERROR"},
                "django.server": {"level": "WARNING"},
                "stripe": {"level": "WARNING"},
                "urllib3": {"level": "WARNING"},
                "httpx": {"level": "WARNING"},
            },
        }
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of module ``name``."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
