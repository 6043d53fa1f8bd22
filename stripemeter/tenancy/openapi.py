"""How the API's description names the ways to authenticate."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension


class ApiKeySchemes(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Either header will do."""

    target_class = "stripemeter.tenancy.authentication.ApiKeyAuthentication"
    name = ["BearerAuth", "ApiKeyAuth"]

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[Any]]]:
        """Any one of the two."""
        return [{"BearerAuth": []}, {"ApiKeyAuth": []}]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, Any]]:
        """``Authorization: Bearer sm_live_…`` and ``X-API-Key: sm_live_…``."""
        return [
            {"type": "http", "scheme": "bearer", "description": "An API key: sm_live_…"},
            {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        ]
