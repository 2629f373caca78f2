"""What the scripts, the network and the data sets share.  Nothing here imports from `model` or `dataset`."""
