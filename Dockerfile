# Two stages: the first installs and collects, the second runs it without any tool to build.

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PATH=/venv/bin:$PATH
WORKDIR /app
COPY requirements.lock ./
RUN python -m venv /venv && pip install --quiet --require-hashes -r requirements.lock
COPY . .
# Production settings refuse to load without secrets: these live for one command.
RUN secret() { python -c 'import secrets; print(secrets.token_urlsafe(48))'; } && \
    STRIPEMETER_ENV=production STRIPEMETER_SECRET_KEY="$(secret)" \
    STRIPEMETER_API_KEY_PEPPER="$(secret)" STRIPEMETER_WIDGET_SIGNING_KEY="$(secret)" \
    STRIPEMETER_ALLOWED_HOSTS=build STRIPEMETER_PUBLIC_URL=https://build \
    python manage.py collectstatic --noinput -v 0 && \
    python -m compileall -q /app /venv

FROM python:3.11-slim-bookworm
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 STRIPEMETER_ENV=production \
    STRIPEMETER_RUNTIME_DIR=/tmp/stripemeter
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin stripemeter
WORKDIR /app
COPY --from=build /venv /venv
COPY --from=build /app /app
USER 10001
EXPOSE 3000
CMD ["granian", "--interface", "wsgi", "--no-ws", "--host", "0.0.0.0", "--port", "3000", \
     "--workers", "2", "--blocking-threads", "4", \
     "--http1-header-read-timeout", "10000", "stripemeter.wsgi:application"]
