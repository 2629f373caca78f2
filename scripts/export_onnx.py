"""Write a checkpoint's network as ONNX files, for ONNX Runtime and other engines (docs/onnx.md).

python scripts/export_onnx.py --output out/onnx
python scripts/export_onnx.py --model saves/stcn.pth --output out/onnx
"""

import argparse
import sys

from model.onnx import OPSET, OPSETS, PARTS, SHAPES, export_onnx
from util.errors import one_line_errors
from util.flags import Parser, int_between


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    result.add_argument(
        "--model", default="saves/stcn_light.pth", metavar="FILE", help="checkpoint, ours or one of the paper's release"
    )
    result.add_argument("--output", required=True, metavar="FOLDER", help="where the three files go")
    result.add_argument("--opset", type=int_between(OPSETS[0], OPSETS[-1]), default=OPSET, help="version of ONNX's operators")
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    for path in export_onnx(arguments.model, arguments.output, opset=arguments.opset):
        inputs, outputs = (
            ", ".join(f"{name} ({SHAPES[name].replace(' ', ', ')})" for name in names) for names in PARTS[path.stem]
        )
        print(f"{path}: {inputs} -> {outputs}")


if __name__ == "__main__":
    sys.exit(main())
