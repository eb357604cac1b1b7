# From a checkpoint to a model repository: ONNX graphs, and TensorRT plans where a GPU is.
#   --build-arg EXTRAS=            no TensorRT: ONNX alone, a tenth of the size
#   --build-arg ALSO=torch==2.13.0 reads ckpt.pt too, not only safetensors
# Built from the repository's root; constraints.txt pins what pip installs, so that a plan has the
# TensorRT of nanotriton/server.

FROM python:3.11.14-bookworm AS builder
# A machine may have an index of its own: given as build arguments, in no image.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_CERT
ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
ARG EXTRAS=gpu
ARG ALSO
WORKDIR /src
COPY pyproject.toml constraints.txt docker/needs.py ./
# Both arguments are lists of words.
# hadolint ignore=SC2086
RUN python3 needs.py core export ${EXTRAS} > needs.txt && \
    pip install --target /opt/packages -c constraints.txt -r needs.txt ${ALSO} && \
    find /opt/packages -type d -name tests -prune -exec rm -r {} +
COPY setup.py README.md ./
COPY nanotriton nanotriton
RUN pip install --no-deps --target /opt/nanotriton . && \
    ls /opt/nanotriton/nanotriton/native/attention.*.so
WORKDIR /opt/export
COPY model_repository model_repository
COPY score_repository score_repository
COPY clients clients
COPY export export
RUN python3 -m compileall -q export clients

FROM python:3.11.14-slim-bookworm AS export
ARG VERSION=unversioned
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nanotriton/export" \
      org.opencontainers.image.description="GPT checkpoints to ONNX graphs and TensorRT plans" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=builder /opt/packages /opt/packages
COPY --from=builder /opt/nanotriton /opt/nanotriton
COPY --from=builder /opt/export /opt/export
ENV PYTHONPATH=/opt/export:/opt/nanotriton:/opt/packages \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN groupadd --gid 10001 nanotriton && \
    useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin nanotriton
USER 10001:10001
# It does one thing and ends.
HEALTHCHECK NONE
ENTRYPOINT ["python3", "-m", "export"]
CMD ["--help"]
