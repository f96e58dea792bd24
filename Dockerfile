# syntax=docker/dockerfile:1
# Serves the embedded demo model by default:
#   docker build -t internvl-server . && docker run --rm -p 8000:8000 internvl-server
# An image without CUDA libraries needs PyTorch's CPU wheels; name their index:
#   docker build --build-arg TORCH_INDEX_URL=<PyTorch's CPU wheel index> -t internvl-server .
FROM python:3.11-slim AS build

ARG TORCH_INDEX_URL=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src
COPY constraints.txt ./
# torch first and alone: it is the largest layer and changes least.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} -c constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY server server
COPY model_runtime model_runtime
COPY clients clients
RUN --mount=type=cache,target=/root/.cache/pip pip install -c constraints.txt .

FROM python:3.11-slim AS serve

LABEL org.opencontainers.image.title="internvl-server" \
      org.opencontainers.image.description="OpenAI-compatible server for InternVL3" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --create-home --uid 10001 internvl && mkdir -p /models && chown internvl /models
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH HF_HOME=/models PYTHONUNBUFFERED=1
USER 10001
WORKDIR /home/internvl
EXPOSE 8000
VOLUME /models
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["internvl-server", "serve", "--host", "0.0.0.0"]
