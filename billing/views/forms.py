"""What forms of operator pages share: they are checked by the API's own serializers."""

from typing import Any

from rest_framework.exceptions import APIException

from stripemeter.lib.decimals import NotANumber, decimal_of
from stripemeter.lib.drf import problem_of
from stripemeter.lib.errors import ProblemError


def validated(serializer: type[Any], body: dict[str, Any]) -> dict[str, Any]:
    """``body`` as the API would check it. Raises `ProblemError`."""
    read = serializer(data=body)
    try:
        read.is_valid(raise_exception=True)
    except APIException as error:
        raise problem_of(error) or error from error
    return dict(read.validated_data)


def number(written: str) -> Any:
    """A number as JSON has it; other text stays text, and the field says what is wrong."""
    try:
        found = decimal_of(written)
    except NotANumber:
        return written
    return int(found) if found == found.to_integral_value() else found


def by_field(problem: ProblemError) -> dict[str, str]:
    """What is wrong, by field; under the empty name what concerns the whole."""
    found = {error.field: error.detail for error in problem.errors}
    return found or {"": problem.detail}
