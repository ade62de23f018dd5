# The serving image: no torch, no transformers, no model. Mount a bundle at /model.
#   make image
#   docker run --rm -p 8080:8080 -v "$PWD/models/query_type:/model:ro" inferer
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TOKENIZERS_PARALLELISM=false \
    ORT_DISABLE_TELEMETRY=1 \
    HOME=/tmp \
    INFERER_BUNDLE=/model \
    INFERER_HOST=0.0.0.0 \
    PORT=8080

WORKDIR /app

# Dependencies before sources: they change less often.
COPY requirements_inference.txt ./
RUN python -m pip install --no-cache-dir --require-hashes -r requirements_inference.txt

COPY inferer ./inferer
COPY service ./service
COPY app.py gunicorn.conf.py ./
COPY deploy/sagemaker/serve /usr/local/bin/
# Compiled here, since the root file system may be read-only when it runs.
RUN python -m compileall -q inferer service app.py

# Numeric, so that Kubernetes can see that it is not root.
USER 10001:10001

EXPOSE 8080

HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + (os.environ.get('AIP_HTTP_PORT') or os.environ.get('PORT', '8080')) + '/health/ready', timeout=2)"]

# Exec form: gunicorn is process 1 and gets SIGTERM, answers what it has read, and exits 0.
CMD ["python", "-m", "gunicorn", "app:app"]
