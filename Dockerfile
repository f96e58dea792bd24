# syntax=docker/dockerfile:1
# The demo model on the CPU:      docker build -t internvl-server:cpu .
# Checkpoints on NVIDIA GPUs:     docker build --target cuda -t internvl-server:cuda .
#
# PyTorch on the usual index brings CUDA libraries of several GB. For a small CPU image name
# PyTorch's index of CPU wheels:  docker build --build-arg TORCH_INDEX_URL=... -t internvl-server:cpu .

FROM python:3.11-slim-bookworm AS build
ENV PATH=/opt/venv/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv /opt/venv
WORKDIR /src
COPY constraints.txt ./
# torch first and alone: it is the largest layer and changes least.
ARG TORCH_INDEX_URL=""
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} -c constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY server server
COPY model_runtime model_runtime
COPY clients clients

FROM build AS build-cpu
RUN --mount=type=cache,target=/root/.cache/pip pip install -c constraints.txt ".[otel]"

FROM build AS build-cuda
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install -c constraints.txt ".[otel,bitsandbytes]"
# Triton compiles one C file when it first meets a GPU. It is compiled here, against a stand-in
# for the driver's library, so that the final image needs no compiler.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
ENV TRITON_LIBCUDA_PATH=/opt/libcuda TRITON_CACHE_DIR=/opt/triton
COPY deploy/compile_triton_driver.py deploy/
RUN python3 deploy/compile_triton_driver.py

FROM python:3.11-slim-bookworm AS serve
LABEL org.opencontainers.image.title="internvl-server" \
      org.opencontainers.image.description="OpenAI-compatible server for InternVL3" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --create-home --uid 10001 internvl \
    && mkdir /models \
    && chown internvl:internvl /models
ENV PATH=/opt/venv/bin:$PATH HF_HOME=/models \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    INTERNVL_HOST=0.0.0.0 INTERNVL_PORT=8000
USER 10001
WORKDIR /home/internvl
EXPOSE 8000
VOLUME /models
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['INTERNVL_PORT'] + '/readyz', timeout=2)"]
ENTRYPOINT ["internvl-server"]
CMD ["serve"]

FROM serve AS cuda
COPY --from=build-cuda /opt/venv /opt/venv
COPY --from=build-cuda --chown=10001:10001 /opt/triton /opt/triton
ENV TRITON_LIBCUDA_PATH=/opt/libcuda TRITON_CACHE_DIR=/opt/triton \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

# The last stage is the one that is built by default.
FROM serve AS cpu
COPY --from=build-cpu /opt/venv /opt/venv
