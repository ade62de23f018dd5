#!/usr/bin/env bash
# Choose exact versions for the three sets from pyproject.toml's ranges. Needs uv on the PATH.
set -euo pipefail
cd "$(dirname "$0")"
common=(--python-version 3.11 --no-header --no-annotate --quiet)
# Both sides must read a text alike: transformers 4.57 wants tokenizers < 0.23.1 and huggingface-hub < 1.
pins=$(mktemp)
trap 'rm -f "$pins"' EXIT
printf 'tokenizers==0.22.2\nhuggingface-hub==0.36.2\nnumpy==2.4.6\n' > "$pins"

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
  echo "# What tests and lint need, on top of requirements_inference.txt. Made by lock.sh."
  printf '%s\n' hypothesis mypy pytest ruff uv \
    | uv pip compile - -c "$pins" "${common[@]}"
} > requirements_dev.txt.new
for set in inference training dev; do mv "requirements_$set.txt.new" "requirements_$set.txt"; done
