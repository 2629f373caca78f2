"""Bad input by generation, in a sandbox: see `generated.py` and `requested.py`.  A file of its own, to run beside cases."""

import pytest
from test_cases import run_in_sandbox


@pytest.mark.parametrize("cases", [15, pytest.param(200, marks=pytest.mark.slow)])
def test_generated_cases_end_well(cases, tmp_path):
    run_in_sandbox(tmp_path, "generated.py", "--cases", cases)


@pytest.mark.parametrize("cases", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_generated_requests_to_the_page_end_well(cases, tmp_path):
    pytest.importorskip("starlette", reason="the extra `web` is not installed")
    run_in_sandbox(tmp_path, "requested.py", "--cases", cases)
