# One image for all services; the argument picks one:  docker run meshmart order
#
# In it: the base's Python, the packages of requirements.lock in /opt/venv, and the services in /app, with the stand-ins. Nothing that builds.
# The official slim image is the smallest base that the wheels of grpcio, uvloop and cryptography are made for.
ARG PYTHON_VERSION=3.14

FROM python:${PYTHON_VERSION}-slim AS build
WORKDIR /build
COPY requirements.lock ./
# A version of debugpy, for `skaffold dev --profile debug`. No other image has it.
ARG DEBUGPY_VERSION=
# The lock names everything with its hash, so nothing is resolved and nothing is compiled.
RUN python -m venv /opt/venv \
    && /opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
        --require-hashes --no-deps --only-binary :all: -r requirements.lock \
    && if [ -n "${DEBUGPY_VERSION}" ]; then /opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
        --no-deps --only-binary :all: "debugpy==${DEBUGPY_VERSION}"; fi \
    && /opt/venv/bin/python -m pip uninstall --yes --quiet pip setuptools \
    # What only type checkers and compilers read.
    && find /opt/venv/lib -name '*.py[ix]' -delete -o -name '*.pxd' -delete -o -name '*.[ch]' -delete
COPY services /app/services
COPY stand_ins /app/stand_ins
# The root file system is read-only where this runs: what Python would compile at its start is compiled here.
# Only the shop's own files may change afterwards (under `skaffold dev`), so only they are compared with their source.
RUN /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib \
    && /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode checked-hash /app

# The load test has an image of its own (`docker build --target load`), since the shop's needs no locust: `make load-cluster`.
FROM python:${PYTHON_VERSION}-slim AS load-packages
WORKDIR /build
COPY requirements-load.lock ./
RUN python -m venv /opt/venv \
    && /opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
        --require-hashes --no-deps --only-binary :all: -r requirements-load.lock \
    && /opt/venv/bin/python -m pip uninstall --yes --quiet pip setuptools

FROM python:${PYTHON_VERSION}-slim AS load
COPY --from=load-packages /opt/venv /opt/venv
COPY services /app/services
COPY loadtest /app/loadtest
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["locust", "--config", "loadtest/locust.conf"]

FROM python:${PYTHON_VERSION}-slim
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Meshmart" \
      org.opencontainers.image.description="A small real shop made of nine Python services, for learning, trying and measuring service meshes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN python -m pip uninstall --yes --quiet pip 2>/dev/null; rm -rf /usr/share/python-wheels
# The owner may write, so that `skaffold dev` can put changed files there; the chart makes it read-only for everybody else.
COPY --from=build --chown=10001:10001 /opt/venv /opt/venv
COPY --from=build --chown=10001:10001 /app /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# A volume that is mounted there belongs to the user below, as this does (compose.yaml).
RUN install -d -o 10001 -g 10001 /data
WORKDIR /app
USER 10001:10001
EXPOSE 3000 3001 9000
ENTRYPOINT ["python", "-m", "services"]
