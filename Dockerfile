# One image for both processes: `goalsvc serve` (the default) and `goalsvc worker` (by command).
ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# Both lock files are complete and hold a hash for every file, so that nothing is resolved here and nothing else installed.
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /opt/goalsvc \
    && /opt/goalsvc/bin/python -m pip install --no-deps --require-hashes -r requirements.lock \
    && python -m pip install --no-deps --require-hashes -r requirements-build.lock

COPY pyproject.toml README.md ./
COPY src src
COPY examples examples
RUN python -m hatchling build -t wheel \
    && /opt/goalsvc/bin/python -m pip install --no-deps --no-index dist/*.whl \
    && /opt/goalsvc/bin/python -m pip check \
    && /opt/goalsvc/bin/python -m pip uninstall --yes pip


FROM python:${PYTHON_VERSION}-slim-bookworm
# ffmpeg cuts the clips; tini passes signals on and buries the ffmpegs that a killed worker leaves behind. Debian's ffmpeg, for it
# is mended when a hostile stream finds a fault; without what it would need to draw on a screen (160 MB).
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ffmpeg tini \
    && rm -rf /var/lib/apt/lists/* /usr/lib/*/dri /usr/lib/*/libLLVM-* /usr/lib/*/libz3.so* \
    && ffmpeg -version \
    && useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin goalsvc
COPY --from=build /opt/goalsvc /opt/goalsvc
ENV PATH=/opt/goalsvc/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

USER 10001:10001
EXPOSE 8000
# Of the API; a worker answers at GOALSVC_WORKER_PORT alone, where one is set. Plain http.client, because it does not look for a proxy in the environment.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 \
    CMD ["python", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 8000, timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["tini", "--"]
CMD ["goalsvc", "serve", "--host", "0.0.0.0"]
