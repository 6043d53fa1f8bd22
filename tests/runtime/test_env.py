"""What the embedded runtime writes down, and who reads it."""

import stat
from pathlib import Path

from stripemeter.runtime import env

WRITTEN = {
    "DATABASE_URL": "postgresql://app@embedded/db",
    "DATABASE_OWNER_URL": "postgresql://owner@embedded/db",
    "REDIS_URL": "redis://embedded",
    "STRIPE_API_BASE": "http://127.0.0.1:12111",
    "STRIPE_SECRET_KEY": "sk_live_sandbox",
    "STRIPEMETER_ENV": "demo",
}


def _loaded(folder: Path, **given: str) -> dict[str, str]:
    environ = {"STRIPEMETER_RUNTIME_DIR": str(folder), **given}
    env.load(environ)
    del environ["STRIPEMETER_RUNTIME_DIR"]
    return environ


def test_a_later_command_finds_what_was_written_down(tmp_path: Path) -> None:
    env.write_values(tmp_path / "runtime.env", WRITTEN, comment="written by a test")
    assert _loaded(tmp_path) == WRITTEN


def test_a_database_of_ones_own_is_not_mixed_with_the_embedded_owner(tmp_path: Path) -> None:
    env.write_values(tmp_path / "runtime.env", WRITTEN)
    found = _loaded(tmp_path, DATABASE_URL="postgresql://mine")
    assert found["DATABASE_URL"] == "postgresql://mine"
    assert "DATABASE_OWNER_URL" not in found
    assert found["REDIS_URL"] == "redis://embedded"


def test_a_stripe_key_of_ones_own_never_goes_to_the_sandbox(tmp_path: Path) -> None:
    env.write_values(tmp_path / "runtime.env", WRITTEN)
    for name in ("STRIPE_SECRET_KEY", "STRIPE_TEST_SECRET_KEY", "STRIPE_SECRET_KEY_FILE"):
        found = _loaded(tmp_path, **{name: "mine"})
        assert "STRIPE_API_BASE" not in found
        assert {n: v for n, v in found.items() if n.startswith("STRIPE_")} == {name: "mine"}


def test_production_and_tests_read_nothing(tmp_path: Path) -> None:
    env.write_values(tmp_path / "runtime.env", WRITTEN)
    for given in ({"STRIPEMETER_ENV": "production"}, {"STRIPEMETER_IGNORE_RUNTIME": "1"}):
        assert _loaded(tmp_path, **given) == given


def test_secrets_are_made_once_and_are_private(tmp_path: Path) -> None:
    first = env.generated_secrets(tmp_path, extra=("REDIS_PASSWORD",))
    again = env.generated_secrets(tmp_path, extra=("REDIS_PASSWORD", "ANOTHER"))
    assert {name: again[name] for name in first} == first
    assert len(set(again.values())) == len(again) == len(env.GENERATED_SECRETS) + 2
    assert all(len(value) >= 48 for value in again.values())
    assert stat.S_IMODE((tmp_path / "secrets.env").stat().st_mode) == 0o600
