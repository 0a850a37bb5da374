# A worker: the base install, without anything that plans or compiles.
#   docker build --file docker/worker.Dockerfile --tag flexpie-worker .

FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY flexpie flexpie
RUN python -m venv /opt/flexpie \
 && /opt/flexpie/bin/pip install --no-cache-dir --disable-pip-version-check .

FROM python:3.12-slim
RUN useradd --uid 10001 --create-home flexpie \
 && install --directory --owner=flexpie /var/lib/flexpie
COPY --from=build /opt/flexpie /opt/flexpie
ENV PATH=/opt/flexpie/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    XDG_STATE_HOME=/var/lib
USER flexpie
WORKDIR /home/flexpie
# The worker's identity and the packages it was sent.
VOLUME /var/lib/flexpie
EXPOSE 50051
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
  CMD ["flexpie", "health", "127.0.0.1:50051"]
ENTRYPOINT ["flexpie-worker"]
