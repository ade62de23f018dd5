#!/usr/bin/env bash
# Resolve exact versions from pyproject.toml's ranges, for the tests and for `make audit` too. Needs uv on the PATH.
set -euo pipefail
cd "$(dirname "$0")"
common=(--python-version 3.11 --no-header --no-annotate --quiet)
# Training and serving must tokenize alike: transformers 5.24 requires tokenizers 0.23.1 to 0.24.
# datasets bounds fsspec, and the sets share an environment.
pins=$(mktemp)
taken=$(mktemp)
wanted=$(mktemp)
trap 'rm -f "$pins" "$taken" "$wanted"' EXIT
printf 'onnxruntime==1.31.1\ntokenizers==0.23.3\nnumpy==2.4.6\nfsspec==2026.6.0\n' > "$pins"

{
  echo "# Serving: exact versions, any platform, hashes checked. Made by lock.sh; no torch, no transformers."
  uv pip compile pyproject.toml --extra serve --universal --generate-hashes -c "$pins" "${common[@]}"
} > requirements_inference.txt.new
{
  echo "# Tracing, on top of requirements_inference.txt: any platform, hashes checked. Made by lock.sh."
  # The extra alone: the image removes packages of the serving set that these need.
  grep -v '^ *--hash' requirements_inference.txt.new | sed 's/ *\\$//' > "$taken"
  python3 -c 'import tomllib; file = open("pyproject.toml", "rb")
print(*tomllib.load(file)["project"]["optional-dependencies"]["tracing"], sep="\n")' \
    | uv pip compile - --universal --generate-hashes -c "$pins" -c "$taken" "${common[@]}"
} > requirements_tracing.txt.new
{
  echo "# Export and training, on top of requirements_inference.txt. Made by lock.sh."
  echo "# torch comes as a CPU or a CUDA build under the same version, so this file has no hashes, and the"
  echo "# packages of its CUDA build (nvidia-*, cuda-*, triton) are left to torch itself."
  uv pip compile pyproject.toml --extra export --extra training -c "$pins" "${common[@]}" \
    | grep -vE '^(nvidia-|cuda-|triton)'
} > requirements_training.txt.new
{
  echo "# Notebooks, on top of the training set: JupyterLab, for the image's target training. Made by lock.sh."
  cat requirements_training.txt.new > "$taken"
  uv pip compile pyproject.toml --extra notebooks -c "$pins" -c "$taken" "${common[@]}" > "$wanted"
  # The training set keeps its own pins.
  grep -vxFf requirements_training.txt.new "$wanted"
} > requirements_notebooks.txt.new
{
  echo "# Tests and lint, on top of requirements_inference.txt. Made by lock.sh."
  # All sets go into one environment, so the other sets' versions hold here too.
  grep -v '^ *--hash' requirements_inference.txt.new | sed 's/ *\\$//' > "$taken"
  grep -v '^ *--hash' requirements_tracing.txt.new | sed 's/ *\\$//' >> "$taken"
  cat requirements_training.txt.new requirements_notebooks.txt.new >> "$taken"
  printf '%s\n' axe-playwright-python 'cleanlab>=2.8' codespell huggingface-hub hypothesis ipykernel \
    kubernetes-validate mypy nbclient openapi-spec-validator openpyxl 'optuna>=4' playwright pytest pytest-xdist ruff \
    schemathesis tensorboard 'tritonclient[http]' uv \
    | uv pip compile - -c "$pins" -c "$taken" "${common[@]}"
} > requirements_dev.txt.new
{
  echo "# \`make audit\`, in an environment of its own: hashes checked. Made by lock.sh."
  echo pip-audit | uv pip compile - --universal --generate-hashes "${common[@]}"
} > requirements_audit.txt.new
for set in inference tracing training notebooks dev audit; do mv "requirements_$set.txt.new" "requirements_$set.txt"; done
