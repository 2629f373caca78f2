#!/usr/bin/env bash
# From nothing to scores: installs into .venv, makes the demo data, and segments and scores its DAVIS validation videos
# with an untrained light network.  Everything it writes lies in demo/.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"
python scripts/make_demo_data.py demo/data --overwrite
python - <<'PYTHON'
import torch

from model import STCN, NetworkConfig, save_network

torch.manual_seed(0)
network = STCN(NetworkConfig(key_backbone="resnet18", key_dim=32, value_dim=128))
save_network(network, "demo/untrained.pth")
PYTHON
python eval_davis.py --model demo/untrained.pth --davis_path demo/data/DAVIS/2017 --output demo/results --overwrite
