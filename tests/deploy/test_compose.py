"""docker-compose.yml, Dockerfile and .env.example: their shape and their safety.

No engine is needed: the file is held against the Compose Specification's own schema
(Apache License 2.0, in compose-spec/) and against rules of ours.
"""

import re
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator

from stripemeter.runtime.postgres import create_database
from tests.support.cluster import Cluster
from tests.support.environment import ROOT
from tests.tidy.variables import variables_read

SCHEMA = Path(__file__).parent / "compose-spec" / "compose-spec.json"
COMPOSE = (ROOT / "docker-compose.yml").read_text()
#: Variables that only compose itself reads.
COMPOSE_ONLY = {
    "POSTGRES_PASSWORD",
    "STRIPEMETER_OWNER_PASSWORD",
    "STRIPEMETER_APP_PASSWORD",
    "REDIS_PASSWORD",
    "WEB_PROCESSES",
}
SECRET_NAME = re.compile(r"SECRET|PASSWORD|PEPPER|SIGNING|_KEY")


def _services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]
    return services


def _substitutions() -> set[tuple[str, str, str]]:
    """(name, operator, rest) of every ``${NAME:?rest}`` or ``${NAME:-rest}``."""
    found = re.findall(r"(?<!\$)\$\{([A-Z_]+)(:[?-])?([^}]*)\}", COMPOSE)
    return {(name, operator, rest) for name, operator, rest in found}


def test_the_file_is_what_the_compose_specification_describes() -> None:
    document = yaml.safe_load(COMPOSE)
    document = {key: part for key, part in document.items() if not key.startswith("x-")}
    schema = yaml.safe_load(SCHEMA.read_text())
    errors = [error.message for error in Draft7Validator(schema).iter_errors(document)]
    assert errors == []


def test_the_check_of_the_shape_notices_a_wrong_key() -> None:
    document = {"services": {"web": {"image": "x", "depends": ["y"]}}}
    assert list(Draft7Validator(yaml.safe_load(SCHEMA.read_text())).iter_errors(document))


def test_every_part_of_production_is_there_with_a_health_check() -> None:
    services = _services()
    assert set(services) == {"postgres", "redis", "migrate", "web", "worker", "beat"}
    assert {name for name, part in services.items() if "healthcheck" not in part} == {"migrate"}


def test_only_web_is_published_and_only_on_loopback() -> None:
    published = {name: part["ports"] for name, part in _services().items() if "ports" in part}
    assert published == {"web": ["127.0.0.1:3000:3000"]}


def test_no_secret_has_a_default() -> None:
    secrets = [s for s in _substitutions() if SECRET_NAME.search(s[0])]
    assert secrets
    for name, operator, rest in secrets:
        required = operator == ":?"
        optional_and_empty = operator == ":-" and rest == "" and name.startswith("STRIPE_")
        assert required or optional_and_empty, f"{name} has a default in docker-compose.yml"


def test_the_tiers_start_after_the_migration_and_the_service_cannot_migrate() -> None:
    services = _services()
    for name in ("web", "worker", "beat"):
        waits = services[name]["depends_on"]
        assert waits["migrate"]["condition"] == "service_completed_successfully"
        assert "DATABASE_OWNER_URL" not in services[name]["environment"]
    assert "DATABASE_OWNER_URL" in services["migrate"]["environment"]


def test_the_tiers_run_without_rights_they_do_not_need() -> None:
    services = _services()
    for name in ("migrate", "web", "worker", "beat"):
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["read_only"] is True
    assert re.search(r"^USER \d+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_every_variable_is_one_that_the_service_reads() -> None:
    used = {name for part in _services().values() for name in part.get("environment", {})}
    ours = {name for name in used if name.startswith(("STRIPE", "DATABASE", "REDIS_URL"))}
    assert ours - COMPOSE_ONLY - variables_read() == set()


def test_the_example_names_exactly_the_variables_of_compose_and_holds_no_secret() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    values = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert set(values) == {name for name, _, _ in _substitutions()}
    assert {name for name, value in values.items() if value} == {"WEB_PROCESSES"}


def test_the_roles_of_the_container_are_those_of_the_embedded_server(cluster: Cluster) -> None:
    script = (ROOT / "ops/postgres/10-roles.sh").read_text()
    statements = script.split("<<'SQL'\n")[1].removesuffix("SQL\n").split(";")
    grants = [statement for statement in statements if "DEFAULT PRIVILEGES" in statement]
    query = "SELECT defaclobjtype::text, defaclacl::text FROM pg_default_acl ORDER BY defaclobjtype"
    name = f"{cluster.run.database}_roles"
    with cluster.connect() as connection:
        create_database(connection, name)
    try:
        with cluster.connect(name) as connection:
            for grant in grants:
                connection.execute(grant)
            in_container = connection.execute(query).fetchall()
    finally:
        cluster.drop_database(name)
    with cluster.connect(cluster.template) as connection:
        assert in_container == connection.execute(query).fetchall()
    assert len(in_container) == 2
