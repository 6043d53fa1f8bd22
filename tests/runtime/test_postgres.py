"""The embedded PostgreSQL comes back from anything, and is started once."""

import os
import pwd
import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from stripemeter.runtime import postgres
from stripemeter.runtime.binaries import PostgresPrograms, find_postgres, readable_by
from stripemeter.runtime.postgres import APP_ROLE, OWNER_ROLE, PostgresServer, bootstrap
from stripemeter.runtime.processes import RuntimeProblem, can_reach, in_directory, wait_until

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="is about running as root")


def _scalar(server: PostgresServer, query: str) -> Any:
    with server.connect() as connection:
        row = connection.execute(query).fetchone()
    return row[0] if row else None


def test_a_started_server_is_found_and_not_started_again(folder: Path) -> None:
    first = PostgresServer(folder / "postgres")
    first.start()
    second = PostgresServer(folder / "postgres")
    second.start()
    assert second.pid() == first.pid()
    assert second.port == first.port
    first.stop()
    assert second.pid() is None


def test_committed_rows_survive_a_kill_of_the_whole_server(folder: Path) -> None:
    server = PostgresServer(folder / "postgres")
    server.start()
    with server.connect() as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    for process in in_directory(server.data):
        process.kill()
    assert wait_until(lambda: not in_directory(server.data), timeout_s=60)
    server.start()
    assert _scalar(server, "SELECT answer FROM kept") == 42


def test_backends_that_outlive_their_postmaster_do_not_stop_the_next(folder: Path) -> None:
    server = PostgresServer(folder / "postgres")
    server.start()
    client = server.connect()
    backend = _scalar_of(client, "SELECT pg_backend_pid()")
    os.kill(backend, signal.SIGSTOP)  # so that it cannot notice the death of its parent
    postmaster = server.pid()
    assert postmaster is not None
    os.kill(postmaster, signal.SIGKILL)
    assert wait_until(lambda: server.pid() is None, timeout_s=60)
    server.start()
    assert server.pid() != postmaster
    assert backend not in {process.pid for process in in_directory(server.data)}
    client.close()


def _scalar_of(connection: "psycopg.Connection[Any]", query: str) -> Any:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def test_a_pid_file_that_names_a_stranger_does_not_stop_the_start(folder: Path) -> None:
    server = PostgresServer(folder / "postgres")
    server.start()
    lines = (server.data / "postmaster.pid").read_text().splitlines()
    server.stop()
    lines[0] = str(os.getpid())  # as after a reboot: the number now belongs to another program
    (server.data / "postmaster.pid").write_text("\n".join(lines) + "\n")
    assert server.pid() is None
    server.start()
    assert server.pid() is not None


def test_a_half_made_cluster_is_made_anew(folder: Path) -> None:
    server = PostgresServer(folder / "postgres")
    for unfinished in (server.data, server.home / "data.new"):
        unfinished.mkdir(parents=True)
        (unfinished / "base").mkdir()
    server.start()
    assert _scalar(server, "SELECT 1") == 1


def test_the_roles_are_what_the_migrations_expect(folder: Path) -> None:
    server = PostgresServer(folder / "postgres")
    server.start()
    for _ in range(2):  # again with other passwords, as after a lost secrets file
        bootstrap(server, "stripemeter", owner_password="o'1", app_password="a:@/2")
    with psycopg.connect(server.tcp_url(OWNER_ROLE, "stripemeter", password="o'1")) as owner:
        owner.execute("CREATE TABLE thing (n int)")
    with psycopg.connect(server.tcp_url(APP_ROLE, "stripemeter", password="a:@/2")) as app:
        app.execute("INSERT INTO thing VALUES (1)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute("CREATE TABLE other (n int)")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.tcp_url(APP_ROLE, "stripemeter", password="wrong"))


def test_text_sorts_by_code_point_and_knows_unicode_case(folder: Path) -> None:
    server = PostgresServer(folder / "postgres")
    server.start()
    assert _scalar(server, "SELECT 'B' < 'a'") is True
    if server.programs.major >= 17:
        assert _scalar(server, "SELECT lower('É')") == "é"


def test_a_long_path_gets_its_socket_elsewhere(folder: Path) -> None:
    server = PostgresServer(folder / ("deep-" * 25) / "postgres")
    server.start()
    assert server.socket_folder.parent == Path("/tmp")
    assert _scalar(server, "SELECT 1") == 1
    socket_folder = server.socket_folder
    server.destroy()
    assert not socket_folder.exists()


def test_a_folder_with_spaces_and_quotes_works(folder: Path) -> None:
    server = PostgresServer(folder / "it's a folder" / "postgres")
    server.start()
    assert _scalar(server, "SELECT 1") == 1
    server.stop()


def test_data_of_another_major_version_are_left_alone_and_named(folder: Path) -> None:
    server = PostgresServer(folder / "postgres")
    server.start()
    server.stop()
    other = PostgresServer(
        folder / "postgres", programs=PostgresPrograms(server.programs.folder, 99)
    )
    with pytest.raises(RuntimeProblem, match="make clean-demo"):
        other.start()
    assert (server.data / "PG_VERSION").exists()


@AS_ROOT
def test_as_root_the_server_runs_as_somebody_else(folder: Path) -> None:
    server = PostgresServer(folder / "postgres")
    server.start()
    owners = {process.uids().real for process in in_directory(server.data)}
    assert owners
    assert 0 not in owners


@AS_ROOT
def test_programs_below_a_private_folder_are_copied_to_where_the_server_can_run_them(
    folder: Path,
) -> None:
    account = pwd.getpwnam("nobody")
    private = folder / "private"
    programs = readable_by(find_postgres(), None, copy_to=folder / "unused")
    install = programs.folder.parent
    private.mkdir(mode=0o700)
    (private / "package").mkdir()
    (private / "package" / install.name).symlink_to(install)
    hidden = PostgresPrograms(private / "package" / install.name / "bin", programs.major)
    assert not can_reach(hidden.folder, account)
    copied = readable_by(hidden, account, copy_to=folder / "copy")
    assert can_reach(copied.folder / "postgres", account)
    assert (copied.folder / "initdb").stat().st_mode & 0o005 == 0o005


@AS_ROOT
def test_a_checkout_below_a_private_folder_keeps_its_data_where_the_server_can_go(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "home").mkdir(mode=0o700)
    server = PostgresServer(folder / "home" / "checkout" / "postgres")
    assert server.home.parent == Path("/var/lib/stripemeter")
    assert PostgresServer(folder / "home" / "checkout" / "postgres").home == server.home
    server.start()
    assert _scalar(server, "SELECT 1") == 1
    server.destroy()
    assert not server.home.exists()


def test_settings_of_the_environment_win_over_those_for_a_laptop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STRIPEMETER_POSTGRES_SETTINGS", "shared_buffers=64MB max_wal_size=8GB")
    found = postgres.laptop_settings()
    assert (found["shared_buffers"], found["max_wal_size"]) == ("64MB", "8GB")
    assert found["fsync"] == "on"
