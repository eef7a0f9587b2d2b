#!/usr/bin/env bash
# The tests that need a CUDA device; `make test` leaves them out. Usage: benchmarks/gpu.sh [PYTHON]
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${1:-.venv/bin/python}" -m pytest -m gpu -rs
