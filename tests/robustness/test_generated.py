"""Bad input by generation, in a sandbox: see `generated.py`.  A file of its own, so that it may run beside the cases."""

from test_cases import run_in_sandbox


def test_generated_cases_end_well(tmp_path):
    run_in_sandbox(tmp_path, "generated.py", "--cases", 200)
