"""Code shared by scripts, networks and data sets.  Nothing here imports from `model` or `dataset`."""

import os

# OpenMP threads spin while they wait.  Next to any other busy process (another job, or our own readers and writers) this
# makes the network several times slower; sleeping threads cost a few percent at most.  OpenMP reads this variable when
# PyTorch is loaded, so scripts and packages import `util` before `torch`.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
