"""Write the network as ONNX, ``build/model.onnx``. ``train.py`` runs first if it has not.

It places boxes while its maps still have height and width, and splits them as exporters of YOLOs do. onnx2tf puts
channels last, and turns neither slices nor constants of flattened maps the right way.
"""

from typing import Any

import torch
from torch import nn

from train import BUILD, CLASSES, SIDE, STRIDES, Yolo
from train import main as train


class Maps(nn.Module):
    """The same network with the same results, but for the order of its steps."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        ends = [sum((SIDE // one) ** 2 for one in STRIDES[: index + 1]) for index in range(len(STRIDES))]
        for index, (stride, end) in enumerate(zip(STRIDES, ends, strict=True)):
            cells = SIDE // stride
            corner = network.corner[:, :, end - cells**2 : end].reshape(1, 2, cells, cells)
            self.register_buffer(f"corner{index}", corner.clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.network.start(x)
        found = []
        for index, part in enumerate((self.network.fine, self.network.coarse)):
            said = torch.sigmoid(self.network.heads[index](part(x)))
            centre, sides, scores = torch.split(said, (2, 2, CLASSES), 1)
            reach = STRIDES[index] / SIDE
            centre = centre * (2 * reach) + getattr(self, f"corner{index}")
            found.append(torch.cat([centre, sides * (8 * reach), scores], 1).flatten(2))
        return torch.cat(found, 2)


def main() -> None:
    if not (BUILD / "model.pt2").exists():
        train()
    network = Yolo().eval()
    network.load_state_dict(torch.export.load(BUILD / "model.pt2").state_dict)
    example = torch.zeros(1, 3, SIDE, SIDE)
    path = BUILD / "model.onnx"
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["output0"]}
    torch.onnx.export(Maps(network).eval(), (example,), path, dynamo=False, opset_version=17, **names)


if __name__ == "__main__":
    main()
