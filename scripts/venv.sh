# Sourced by the other scripts: creates .venv, installs the project and its dependencies if these have changed, and puts .venv
# first on PATH.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3}
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo "error: $PYTHON is $("$PYTHON" --version 2>&1), expected Python 3.10 or newer; set PYTHON=/path/to/python3" >&2
    exit 2
fi
[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
if ! cat pyproject.toml constraints.txt | cmp -s - .venv/installed; then
    echo "installing into .venv (some minutes and 6 GB the first time)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,onnx,web]'
    cat pyproject.toml constraints.txt > .venv/installed
fi
export PATH="$PWD/.venv/bin:$PATH"
