# Sourced by the other scripts: makes .venv, installs requirements.txt when it has changed, and puts .venv first on PATH.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3}
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo "error: $PYTHON is $("$PYTHON" --version 2>&1), expected Python 3.10 or newer; set PYTHON=/path/to/python3" >&2
    exit 2
fi
[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
if ! cmp -s requirements.txt .venv/installed-requirements.txt; then
    echo "installing requirements.txt into .venv (some minutes and some GB the first time)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
    cp requirements.txt .venv/installed-requirements.txt
fi
export PATH="$PWD/.venv/bin:$PATH"
