#!/usr/bin/env bash
# The fast tests with the oldest versions that pyproject.toml admits, in .venv-oldest.  Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -x .venv-oldest/bin/python ] || "${PYTHON:-python3}" -m venv .venv-oldest
export PATH="$PWD/.venv-oldest/bin:$PATH"
python -m pip install --quiet --disable-pip-version-check uv
uv pip install --quiet --python .venv-oldest/bin/python --resolution lowest-direct -e '.[dev,onnx,web]'
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
python -m pytest -n "${TEST_PROCESSES:-2}" --dist loadfile -m "not slow" "$@"
