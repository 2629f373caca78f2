"""What the scripts, the network and the data sets share.  Nothing here imports from `model` or `dataset`."""

import os

# OpenMP's threads wait for one another by spinning, which beside any other busy process (another job, or our own readers
# and writers) makes the network several times slower; asleep they cost a few percent at most.  OpenMP reads this when
# PyTorch is loaded, so scripts and packages import `util` before they import `torch`.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
