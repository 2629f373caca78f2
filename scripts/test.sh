#!/usr/bin/env bash
# Lint, check types and run the tests.  `--slow` adds the slow tests; other arguments go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"
selection=(-m "not slow")
if [ "${1:-}" = "--slow" ]; then
    selection=()
    shift
fi
ruff check .
ruff format --check --quiet .
check_types_and_licenses() {
    basedpyright
    # of all that is installed, but for CUDA's libraries, which are not open
    allowed="0BSD;Apache;BSD;ISC;MIT;Mozilla;MPL-2.0;PSF-2.0;Public Domain;Python Software Foundation"
    pip-licenses --from=mixed --partial-match --allow-only="$allowed" \
        --ignore-packages stcn $(pip freeze | grep -oE '^(nvidia|cuda)[^=]*') > /dev/null
}
told=$(mktemp)
trap 'rm -f "$told"' EXIT
check_types_and_licenses > "$told" 2>&1 &  # beside the tests, since each keeps one core idle at times
checks=$!
# two processes with one thread each: most tests are small, or wait for their own subprocesses
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
status=0
python -m pytest -n "${TEST_PROCESSES:-2}" --dist loadfile --no-loadscope-reorder "${selection[@]}" "$@" || status=$?
wait "$checks" || status=$?
cat "$told"
exit "$status"
