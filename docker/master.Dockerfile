# The master: reads models, plans, compiles and answers requests.
#   docker build --file docker/master.Dockerfile --tag flexpie-master .

FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY flexpie flexpie
RUN python -m venv /opt/flexpie \
 && /opt/flexpie/bin/pip install --no-cache-dir --disable-pip-version-check '.[master]'

FROM python:3.12-slim
# lightgbm computes with OpenMP.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --create-home flexpie \
 && install --directory --owner=flexpie /var/lib/flexpie
COPY --from=build /opt/flexpie /opt/flexpie
ENV PATH=/opt/flexpie/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    XDG_STATE_HOME=/var/lib
USER flexpie
WORKDIR /home/flexpie
# The models that clients loaded, and how they were deployed.
VOLUME /var/lib/flexpie
EXPOSE 50050
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
  CMD ["flexpie", "health", "127.0.0.1:50050"]
ENTRYPOINT ["flexpie-master"]
