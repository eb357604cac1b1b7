# The gateway and the command line of its clients: no engine, no Triton.
# Built from the repository's root; constraints.txt pins what pip installs.

FROM python:3.11.14-slim-bookworm AS builder
# A machine may have an index of its own: given as build arguments, in no image.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_CERT
ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY pyproject.toml constraints.txt docker/needs.py ./
RUN python3 needs.py gateway > needs.txt && \
    pip install --target /opt/packages -c constraints.txt -r needs.txt && \
    find /opt/packages -type d -name tests -prune -exec rm -r {} +
WORKDIR /opt/gateway
COPY nanotriton/__init__.py nanotriton/errors.py nanotriton/
COPY clients clients
COPY gateway gateway
RUN python3 -m compileall -q .

FROM python:3.11.14-slim-bookworm AS gateway
ARG VERSION=unversioned
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nanotriton/gateway" \
      org.opencontainers.image.description="The public door in front of Triton: OpenAI's API" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=builder /opt/packages /opt/packages
COPY --from=builder /opt/gateway /opt/gateway
ENV PYTHONPATH=/opt/gateway:/opt/packages \
    PYTHONDONTWRITEBYTECODE=1 \
    GATEWAY_STATE=/state
RUN groupadd --gid 10001 nanotriton && \
    useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin nanotriton && \
    install --directory --owner=10001 --group=10001 --mode=0700 /state
USER 10001:10001
EXPOSE 8080
# Requests under way may end: give it as long as the longest may take, 125 s.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=15s --start-period=180s --retries=3 \
    CMD ["python3", "-m", "clients", "ready", "--protocol", "gateway", "--url", "127.0.0.1:8080"]
ENTRYPOINT ["python3", "-m", "gateway"]
CMD ["serve", "--host", "0.0.0.0"]
