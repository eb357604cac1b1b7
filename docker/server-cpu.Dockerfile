# Triton and the engine for machines without a GPU: the laptop's and CI's image.
#   --target server   serves the repository that is mounted at /models
#   --target demo     has the demo model in it (the default)
# Built from the repository's root; constraints.txt pins what pip installs.
# hadolint global ignore=DL3013

FROM python:3.11.14-bookworm AS builder
# A machine may have an index of its own: given as build arguments, in no image.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_CERT
ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY pyproject.toml constraints.txt docker/needs.py ./
RUN python3 needs.py core tracing > needs.txt && \
    pip install --target /opt/packages -c constraints.txt -r needs.txt 'tritonclient[grpc]'
# The server alone from its wheel, in the places of NVIDIA's image: without the wheel's Python
# package and the stub of another Python.
RUN pip install --no-deps --target /opt/wheel -c constraints.txt nvidia-pytriton && \
    mv /opt/wheel/pytriton/tritonserver /opt/tritonserver && \
    mv /opt/wheel/nvidia_pytriton.libs /opt/tritonserver/lib && \
    mv /opt/tritonserver/python_backend_stubs/3.11/triton_python_backend_stub \
        /opt/tritonserver/backends/python/ && \
    rm -r /opt/tritonserver/python_backend_stubs /opt/tritonserver/lib/libpython3-*
# The native operator is optional to pip; an image has it.
COPY setup.py README.md ./
COPY nanotriton nanotriton
RUN pip install --no-deps --target /opt/nanotriton . && \
    ls /opt/nanotriton/nanotriton/native/attention.*.so

# What serving never imports: ONNX Runtime's tools for models, and packages' own tests.
FROM builder AS slimmed
WORKDIR /opt/packages
RUN rm -r onnxruntime/tools onnxruntime/transformers onnxruntime/quantization && \
    find . -type d -name tests -prune -exec rm -r {} +

FROM python:3.11.14-slim-bookworm AS server
ARG VERSION=unversioned
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nanotriton/server-cpu" \
      org.opencontainers.image.description="Triton and nanotriton's engine, without a GPU" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=slimmed /opt/tritonserver /opt/tritonserver
COPY --from=slimmed /opt/packages /opt/packages
COPY --from=slimmed /opt/nanotriton /opt/nanotriton
ENV PATH=/opt/tritonserver/bin:$PATH \
    LD_LIBRARY_PATH=/opt/tritonserver/lib \
    PYTHONPATH=/opt/nanotriton:/opt/packages \
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
HEALTHCHECK --interval=10s --timeout=15s --start-period=120s --retries=3 \
    CMD ["python3", "-m", "nanotriton.probe", "--model-repository", "/models"]
ENTRYPOINT ["python3", "-m", "nanotriton"]
CMD ["serve", "--model-repository", "/models", "--address", "0.0.0.0"]

# fp32 by default: 8-bit products are proved on the processor that exports them, and an image moves.
FROM builder AS exporter
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_CERT
ARG PRECISION=fp32
RUN python3 needs.py export > needs.txt && \
    pip install --target /opt/packages -c constraints.txt -r needs.txt
WORKDIR /export
COPY model_repository model_repository
COPY export export
COPY demo demo
RUN PYTHONPATH=/opt/nanotriton:/opt/packages \
    python3 -m export all demo --repository /models --precision "${PRECISION}"

FROM server AS demo
COPY --from=exporter /models /models
