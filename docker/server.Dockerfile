# Triton and the engine for NVIDIA GPUs; the repository, with a plan of this GPU, is mounted at
# /models. Built from the repository's root; constraints.txt pins what pip installs.
# hadolint global ignore=DL3013

# The Python of the base image below, with a compiler for the native operator.
FROM python:3.12.12-bookworm AS builder
# A machine may have an index of its own: given as build arguments, in no image.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_CERT
ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY pyproject.toml constraints.txt docker/needs.py ./
RUN python3 needs.py core gpu tracing > needs.txt && \
    pip install --target /opt/packages -c constraints.txt -r needs.txt 'tritonclient[grpc]'
COPY setup.py README.md ./
COPY nanotriton nanotriton
RUN pip install --no-deps --target /opt/nanotriton . && \
    ls /opt/nanotriton/nanotriton/native/attention.*.so
WORKDIR /opt/packages
RUN rm -r onnxruntime/tools onnxruntime/transformers onnxruntime/quantization && \
    find . -type d -name tests -prune -exec rm -r {} +

# Of Triton's backends only `python` (and `tensorrt`, to score) is used: NVIDIA's compose.py makes a
# smaller base with these two, which --build-arg TRITON=... takes.
ARG TRITON=nvcr.io/nvidia/tritonserver:26.06-py3
# hadolint ignore=DL3006
FROM ${TRITON} AS server
ARG VERSION=unversioned
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nanotriton/server" \
      org.opencontainers.image.description="NVIDIA Triton and nanotriton's engine" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=builder /opt/packages /opt/packages
COPY --from=builder /opt/nanotriton /opt/nanotriton
ENV PYTHONPATH=/opt/nanotriton:/opt/packages \
    PYTHONDONTWRITEBYTECODE=1
# Triton's stub doesn't read PYTHONPATH: what its Python finds stands in a .pth file.
RUN site="$(python3 -c 'import site; print(site.getsitepackages()[0])')" && \
    printf '%s\n' /opt/nanotriton /opt/packages > "${site}/nanotriton.pth" && \
    groupadd --gid 10001 nanotriton && \
    useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin nanotriton
USER 10001:10001
EXPOSE 8000 8001 8002
# Requests under way may end: `serve` gives them 30 s.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=15s --start-period=180s --retries=3 \
    CMD ["python3", "-m", "nanotriton.probe", "--model-repository", "/models"]
# NVIDIA's script picks the driver's libraries, then becomes the server.
ENTRYPOINT ["/opt/nvidia/nvidia_entrypoint.sh", "python3", "-m", "nanotriton"]
CMD ["serve", "--model-repository", "/models", "--address", "0.0.0.0"]
