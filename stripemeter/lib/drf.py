"""Django REST framework, made strict: exact numbers, problem details, no coercion."""

import zlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from rest_framework import exceptions, parsers, renderers, serializers
from rest_framework.request import Request

from stripemeter.lib import errors, instants, strictjson, text
from stripemeter.lib.decimals import NotANumber, decimal_of, digits_and_decimals
from stripemeter.lib.http import problem_response, wants_decimals_as_text
from stripemeter.lib.logs import get_logger

log = get_logger(__name__)


class ExactJSONRenderer(renderers.BaseRenderer):
    """JSON with Decimals as numbers, digit for digit, or as strings on request."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The bytes of ``data``; nothing at all for None."""
        if data is None:
            return b""
        request = (renderer_context or {}).get("request")
        as_text = request is not None and wants_decimals_as_text(request)
        return strictjson.dumps(data, decimals_as_text=as_text)


def read_body(request: Any, *, limit: int, takes_gzip: bool = False) -> bytes:
    """The body, at most ``limit`` bytes. Raises `PayloadTooLarge` before reading more.

    Raises `UnsupportedMediaType` for an encoded body (with ``takes_gzip``: for one that is
    not gzip) and `InvalidRequest` for one that ended early: what was announced and what
    came must agree. ``limit`` bounds a gzipped body both packed and unpacked.
    """
    encoding = request.META.get("HTTP_CONTENT_ENCODING", "").lower()
    packed = encoding == "gzip" and takes_gzip
    if encoding not in {"", "identity"} and not packed:
        taken = "must be gzip or absent" if takes_gzip else "is not supported on this route"
        raise errors.UnsupportedMediaType(f"Content-Encoding {taken}.")
    length = request.META.get("CONTENT_LENGTH") or "0"
    too_large = errors.PayloadTooLarge(f"The body may have at most {limit} bytes.")
    if length.isdigit() and int(length) > limit:
        raise too_large
    try:
        body: bytes = request.body
    except RequestDataTooBig as error:
        raise too_large from error
    if len(body) > limit:
        raise too_large
    if length.isdigit() and len(body) != int(length):
        raise errors.InvalidRequest("The body ended early.", code="incomplete_body")
    return _unpacked(body, limit) if packed else body


def _unpacked(body: bytes, limit: int) -> bytes:
    """A gzip body unpacked, never more than ``limit`` bytes of it in memory."""
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        found = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise errors.InvalidRequest("The body is not gzip.", code="invalid_encoding") from error
    if len(found) > limit:
        raise errors.PayloadTooLarge(f"The unpacked body may have at most {limit} bytes.")
    if not unpacker.eof or unpacker.unused_data:
        raise errors.InvalidRequest("The body is not one gzip file.", code="invalid_encoding")
    return found


def require_json(content_type: str, *, also: frozenset[str] = frozenset()) -> str:
    """The media type of ``content_type`` if it is UTF-8 JSON (or in ``also``).

    Raises `UnsupportedMediaType`.
    """
    media_type, _, parameters = content_type.partition(";")
    media_type = media_type.strip().lower()
    charset = ""
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            charset = value.strip().strip('"').lower()
    if media_type not in {"application/json"} | also or charset not in {"", "utf-8", "utf8"}:
        raise errors.UnsupportedMediaType("Send application/json in UTF-8.")
    return media_type


class StrictJSONParser(parsers.BaseParser):
    """Reads strict JSON; the view's ``body_limit_bytes`` bounds it before parsing."""

    media_type = "application/json"

    def parse(
        self,
        stream: Any,
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """The parsed body. Raises `InvalidRequest`, `PayloadTooLarge`, `UnsupportedMediaType`."""
        context = parser_context or {}
        require_json(media_type or "")
        view = context.get("view")
        limit = getattr(view, "body_limit_bytes", None) or settings.API_BODY_LIMIT_BYTES
        request = context["request"]._request
        try:
            return strictjson.loads(read_body(request, limit=limit))
        except strictjson.InvalidJSON as error:
            raise errors.InvalidRequest(str(error), code="invalid_json") from error


def _field_errors(detail: Any, path: str = "") -> list[errors.FieldError]:
    if isinstance(detail, Mapping):
        found: list[errors.FieldError] = []
        for name, member in detail.items():
            here = path if name == "non_field_errors" else f"{path}.{name}" if path else str(name)
            found += _field_errors(member, here)
        return found
    if isinstance(detail, list | tuple):
        found = []
        for position, member in enumerate(detail):
            if isinstance(member, Mapping):
                found += _field_errors(member, f"{path}[{position}]")
            else:
                found += _field_errors(member, path)
        return found
    code = getattr(detail, "code", None) or "invalid"
    return [errors.FieldError(code=str(code), detail=str(detail), field=path)]


def _from_framework(error: exceptions.APIException) -> errors.ProblemError:
    if isinstance(error, exceptions.ValidationError):
        found = _field_errors(error.detail)
        first = found[0] if found else errors.FieldError("invalid", "The request is not valid.")
        detail = f"{first.field}: {first.detail}" if first.field else first.detail
        return errors.InvalidRequest(detail, errors=found)
    if isinstance(error, exceptions.NotAuthenticated | exceptions.AuthenticationFailed):
        return errors.Unauthenticated(str(error.detail))
    if isinstance(error, exceptions.ParseError):
        return errors.InvalidRequest(str(error.detail), code="invalid_json")
    if isinstance(error, exceptions.MethodNotAllowed):
        return errors.ProblemError(
            str(error.detail), code="method_not_allowed", status=405, title="Method not allowed"
        )
    if isinstance(error, exceptions.UnsupportedMediaType):
        return errors.UnsupportedMediaType("Send application/json in UTF-8.")
    if isinstance(error, exceptions.NotAcceptable):
        return errors.ProblemError(
            "This route answers application/json.", code="not_acceptable", status=406
        )
    code = str(getattr(error, "default_code", "problem"))
    return errors.ProblemError(str(error.detail), code=code, status=error.status_code)


def problem_of(error: Exception) -> errors.ProblemError | None:
    """The problem that ``error`` is answered with, or None if it is a defect of ours."""
    if isinstance(error, errors.ProblemError):
        return error
    if isinstance(error, exceptions.APIException):
        return _from_framework(error)
    if isinstance(error, Http404):
        return errors.NotFound()
    if isinstance(error, PermissionDenied):
        return errors.Forbidden("Not allowed")
    if isinstance(error, UnreadablePostError):
        return errors.InvalidRequest("The body ended early.", code="incomplete_body")
    if isinstance(error, RequestDataTooBig):
        return errors.PayloadTooLarge("The body is too large.")
    if isinstance(error, OperationalError | InterfaceError):
        log.warning("database.unavailable", error=str(error).splitlines()[0])
        return errors.Unavailable(
            "The database cannot be reached or is busy. Retry with the same keys.",
            code="database_unavailable",
        )
    return None


def problem_handler(error: Exception, context: Mapping[str, Any]) -> HttpResponse | None:
    """Django REST framework's exception handler: every refusal becomes problem details."""
    problem = problem_of(error)
    if problem is None:
        return None
    response = problem_response(problem)
    if isinstance(error, exceptions.MethodNotAllowed):
        response["Allow"] = ", ".join(context["view"].allowed_methods)
    return response


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields it does not know, so that a typo is never silently ignored."""

    def to_internal_value(self, data: Any) -> Any:
        """Validate; unknown names are an error of their own field."""
        if not isinstance(data, Mapping):
            raise serializers.ValidationError({"non_field_errors": ["must be a JSON object"]})
        unknown = [name for name in data if name not in self.fields]
        if unknown:
            raise serializers.ValidationError(
                {
                    str(name): [serializers.ErrorDetail("unknown field", "unknown_field")]
                    for name in unknown
                }
            )
        return super().to_internal_value(data)


class TextField(serializers.CharField):
    """Text that must be a JSON string: kept exactly, bounded, without control characters."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", text.REFERENCE_CHARS_MAX)
        super().__init__(trim_whitespace=False, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        """The text itself."""
        if not isinstance(data, str):
            raise serializers.ValidationError("must be text", code="wrong_type")
        if text.FORBIDDEN.search(data):
            raise serializers.ValidationError("contains forbidden characters", code="invalid_text")
        return data


class ReferenceField(TextField):
    """A customer reference or resource id."""

    def to_internal_value(self, data: Any) -> str:
        """The reference itself."""
        problem = text.reference_problem(data)
        if problem:
            raise serializers.ValidationError(problem, code="invalid_reference")
        return str(data)


class MetricField(TextField):
    """A metric name."""

    def to_internal_value(self, data: Any) -> str:
        """The name itself."""
        problem = text.metric_problem(data)
        if problem:
            raise serializers.ValidationError(problem, code="invalid_metric")
        return str(data)


class InstantField(serializers.Field[Any, Any, Any, Any]):
    """An RFC 3339 instant with offset; read and written in UTC."""

    def to_internal_value(self, data: Any) -> Any:
        """The aware UTC datetime."""
        try:
            return instants.parse_instant(data)
        except instants.InvalidInstant as error:
            raise serializers.ValidationError(str(error), code="invalid_instant") from error

    def to_representation(self, value: Any) -> str:
        """RFC 3339 text with ``Z``."""
        return instants.rfc3339(value)


class DayField(serializers.Field[Any, Any, Any, Any]):
    """A calendar date ``YYYY-MM-DD``."""

    def to_internal_value(self, data: Any) -> Any:
        """The date."""
        try:
            return instants.parse_date(data)
        except instants.InvalidInstant as error:
            raise serializers.ValidationError(str(error), code="invalid_date") from error

    def to_representation(self, value: Any) -> str:
        """ISO text."""
        return str(value.isoformat())


class WholeField(serializers.IntegerField):
    """A whole JSON number; neither text, nor a fraction, nor true."""

    def to_internal_value(self, data: Any) -> int:
        """The int itself."""
        if isinstance(data, bool) or not isinstance(data, int):
            raise serializers.ValidationError("must be a whole number", code="wrong_type")
        return data


class FlagField(serializers.BooleanField):
    """``true`` or ``false``, and nothing that merely looks like it."""

    def to_internal_value(self, data: Any) -> bool:
        """The bool itself."""
        if not isinstance(data, bool):
            raise serializers.ValidationError("must be true or false", code="wrong_type")
        return data


class ExactDecimalField(serializers.Field[Any, Any, Any, Any]):
    """A JSON number or a plain decimal string, exact; over-precise input is refused."""

    def __init__(
        self,
        *,
        digits_max: int = 38,
        decimals_max: int = 12,
        low: Decimal | None = None,
        high: Decimal | None = None,
        **kwargs: Any,
    ) -> None:
        self.digits_max, self.decimals_max, self.low, self.high = (
            digits_max,
            decimals_max,
            low,
            high,
        )
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> Decimal:
        """The exact Decimal."""
        try:
            number = decimal_of(data)
        except NotANumber as error:
            raise serializers.ValidationError("must be a plain decimal number") from error
        digits, decimals = digits_and_decimals(number)
        if digits > self.digits_max or decimals > self.decimals_max:
            raise serializers.ValidationError(
                f"may have at most {self.digits_max} digits, {self.decimals_max} after the point",
                code="too_precise",
            )
        if (self.low is not None and number < self.low) or (
            self.high is not None and number > self.high
        ):
            raise serializers.ValidationError("is out of range", code="out_of_range")
        return number

    def to_representation(self, value: Decimal) -> Decimal:
        """The Decimal; the renderer writes it."""
        return value


def query_text(request: Request | HttpRequest, name: str) -> str | None:
    """The one value of query parameter ``name``; None if absent.

    Raises `InvalidRequest` if it is given twice or holds forbidden characters.
    """
    values = request.GET.getlist(name)
    if len(values) > 1:
        raise errors.invalid(name, "is given more than once", code="repeated")
    if not values:
        return None
    if text.FORBIDDEN.search(values[0]) or "\ufffd" in values[0]:
        raise errors.invalid(name, "contains forbidden characters", code="invalid_text")
    return values[0]


def query_int(request: Request, name: str, default: int, *, low: int, high: int) -> int:
    """A whole number from the query between ``low`` and ``high``. Raises `InvalidRequest`."""
    raw = query_text(request, name)
    if raw is None or raw == "":
        return default
    if not (raw.isascii() and raw.isdigit() and len(raw) <= 18 and low <= int(raw) <= high):
        raise errors.invalid(name, f"must be a whole number from {low} to {high}")
    return int(raw)


def query_choice(request: Request, name: str, default: str, choices: tuple[str, ...]) -> str:
    """One of ``choices`` from the query. Raises `InvalidRequest`."""
    raw = query_text(request, name) or default
    if raw not in choices:
        raise errors.invalid(name, f"must be one of {', '.join(choices)}", code="invalid_choice")
    return raw


def query_instant(request: Request, name: str) -> Any:
    """An RFC 3339 instant from the query, or None. Raises `InvalidRequest`."""
    raw = query_text(request, name)
    if not raw:
        return None
    try:
        return instants.parse_instant(raw)
    except instants.InvalidInstant as error:
        raise errors.invalid(name, str(error), code="invalid_instant") from error
