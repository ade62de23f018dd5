#!/usr/bin/env bash
# Choose exact versions for the sets from pyproject.toml's ranges, for tests and for `make audit`. Needs uv on the PATH.
set -euo pipefail
cd "$(dirname "$0")"
common=(--python-version 3.11 --no-header --no-annotate --quiet)
# Both sides must read a text alike: transformers 4.57 wants tokenizers < 0.23.1 and huggingface-hub < 1; datasets
# allows fsspec up to a version, and the sets share an environment.
pins=$(mktemp)
taken=$(mktemp)
wanted=$(mktemp)
trap 'rm -f "$pins" "$taken" "$wanted"' EXIT
printf 'tokenizers==0.22.2\nhuggingface-hub==0.36.2\nnumpy==2.4.6\nfsspec==2026.6.0\n' > "$pins"

{
  echo "# What serving needs: exact versions, any platform, hashes checked. Made by lock.sh; no torch, no transformers."
  uv pip compile pyproject.toml --extra serve --universal --generate-hashes -c "$pins" "${common[@]}"
} > requirements_inference.txt.new
{
  echo "# What export and training need, on top of requirements_inference.txt. Made by lock.sh."
  echo "# torch comes as a CPU or a CUDA build under the same version, so there are no hashes here, and what"
  echo "# only its CUDA build wants (nvidia-*, cuda-*, triton) is left to torch itself."
  uv pip compile pyproject.toml --extra export --extra training -c "$pins" "${common[@]}" \
    | grep -vE '^(nvidia-|cuda-|triton)'
} > requirements_training.txt.new
{
  echo "# What notebooks/ needs beside the training set: JupyterLab, for the image's target training. Made by lock.sh."
  cat requirements_training.txt.new > "$taken"
  uv pip compile pyproject.toml --extra notebooks -c "$pins" -c "$taken" "${common[@]}" > "$wanted"
  # What the training set pins already is left to it.
  grep -vxFf requirements_training.txt.new "$wanted"
} > requirements_notebooks.txt.new
{
  echo "# What tests and lint need, on top of requirements_inference.txt. Made by lock.sh."
  # Versions that the other sets have too are theirs: all go into one environment.
  grep -v '^ *--hash' requirements_inference.txt.new | sed 's/ *\\$//' > "$taken"
  cat requirements_training.txt.new requirements_notebooks.txt.new >> "$taken"
  printf '%s\n' axe-playwright-python codespell huggingface-hub hypothesis ipykernel kubernetes-validate mypy nbclient \
    openapi-spec-validator playwright pytest pytest-xdist ruff schemathesis 'tritonclient[http]' uv \
    | uv pip compile - -c "$pins" -c "$taken" "${common[@]}"
} > requirements_dev.txt.new
{
  echo "# What \`make audit\` needs, in an environment of its own: hashes checked. Made by lock.sh."
  echo pip-audit | uv pip compile - --universal --generate-hashes "${common[@]}"
} > requirements_audit.txt.new
for set in inference training notebooks dev audit; do mv "requirements_$set.txt.new" "requirements_$set.txt"; done
