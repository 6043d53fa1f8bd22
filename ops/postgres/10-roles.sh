#!/bin/sh
# Runs once, in the empty database of the postgres container: the two roles of StripeMeter.
# The owner migrates; the application role may only do what migrations leave it.
set -eu
psql --set=ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname "$POSTGRES_DB" \
    --set=database="$POSTGRES_DB" \
    --set=owner_password="$STRIPEMETER_OWNER_PASSWORD" \
    --set=app_password="$STRIPEMETER_APP_PASSWORD" <<'SQL'
CREATE ROLE stripemeter_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'owner_password';
CREATE ROLE stripemeter_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'app_password';
ALTER DATABASE :"database" OWNER TO stripemeter_owner;
ALTER DEFAULT PRIVILEGES FOR ROLE stripemeter_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO stripemeter_app;
ALTER DEFAULT PRIVILEGES FOR ROLE stripemeter_owner IN SCHEMA public
    GRANT USAGE, SELECT ON SEQUENCES TO stripemeter_app;
SQL
