"""Write the network as ONNX, ``build/model.onnx``. ``train.py`` runs first if it has not.

Each head becomes three: for centres, for sides and for scores. Boxes are placed while maps still have height and
width. The reason is that onnx2tf puts channels last, and turns neither slices nor flattened maps the right way.
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
        self.network, self.heads = network, nn.ModuleList()
        end = 0
        for index, (stride, head) in enumerate(zip(STRIDES, network.heads, strict=True)):
            cells = SIDE // stride
            begin, end = end, end + cells**2
            corner = network.corner[:, :, begin:end].reshape(1, 2, cells, cells)
            self.register_buffer(f"corner{index}", corner.clone())
            self.heads.append(nn.ModuleList([_part(head, *part) for part in ((0, 2), (2, 4), (4, 4 + CLASSES))]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.network.start(x)
        found = []
        for index, scale in enumerate((self.network.fine, self.network.coarse)):
            features = scale(x)
            centre, sides, scores = (torch.sigmoid(head(features)) for head in self.heads[index])
            reach = STRIDES[index] / SIDE
            centre = centre * (2 * reach) + getattr(self, f"corner{index}")
            found.append(torch.cat([centre, sides * (8 * reach), scores], 1).flatten(2))
        return torch.cat(found, 2)


def _part(head: Any, begin: int, end: int) -> nn.Module:
    """Return a convolution that gives some channels of another one."""
    part = nn.Conv2d(head.in_channels, end - begin, 1)
    part.weight.data, part.bias.data = head.weight.data[begin:end], head.bias.data[begin:end]
    return part


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
