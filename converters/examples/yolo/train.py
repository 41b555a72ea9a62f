"""A small YOLO (PyTorch, anchor-free, two scales) of handwritten digits on photographs of 160 x 160 pixels.

The digits are real ones from scikit-learn (UCI), as are the two photographs behind them (CC BY 2.0).
A picture has one to four digits, white or black, two to six times as large. Test pictures are made of digits that
were not trained on, over parts of the photographs that were not trained on either.

The head is YOLOv8's: one tensor ``(1, 4 + classes, boxes)`` with centre, width, height and a score for each class.
Boxes are fractions of the picture, so that int8 keeps the scores: see ``docs/how-to/convert-a-detector.md``.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

BUILD = Path(__file__).parent / "build"
SIDE = 160
STRIDES = (8, 16)
LARGE = 32
"""Digits with a longer side, in pixels, are found on the second scale."""
CLASSES = 10
TRAINED, TESTED, CALIBRATED = 2000, 120, 200
KNOWN = 1400
"""Digits of the 1797 to train with."""
EPOCHS, BATCH, RATE = 14, 32, 4e-3
Boxes = list[tuple[int, np.ndarray]]
"""What is in a picture: the digit, and left, top, right and bottom in pixels."""


def main() -> None:
    from sklearn.datasets import load_digits, load_sample_images

    BUILD.mkdir(exist_ok=True)
    torch.manual_seed(3)
    digits, photographs = load_digits(), load_sample_images().images
    order = np.random.default_rng(3).permutation(len(digits.images))
    known, held = order[:KNOWN], order[KNOWN:]
    left, right = [one[:, :440] for one in photographs], [one[:, 440:] for one in photographs]
    images, boxes = pictures(digits.images[known], digits.target[known], left, TRAINED, seed=5)
    test, found = pictures(digits.images[held], digits.target[held], right, TESTED, seed=6)
    network = train(images, boxes)
    example = torch.zeros(1, 3, SIDE, SIDE)
    torch.export.save(torch.export.export(network, (example,)), BUILD / "model.pt2")
    np.save(BUILD / "calibration.npy", images[:CALIBRATED])
    np.save(BUILD / "test.npy", test)
    lines = [
        json.dumps([{"label": str(kind), "box": (box / SIDE).tolist()} for kind, box in one]) for one in found
    ]
    (BUILD / "targets.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def pictures(
    digits: np.ndarray, kinds: np.ndarray, photographs: list[np.ndarray], count: int, seed: int
) -> tuple[np.ndarray, list[Boxes]]:
    """Return uint8 pictures (count, 160, 160, 3) and what is in each; ``digits`` are (n, 8, 8) in 0..16."""
    rng = np.random.default_rng(seed)
    found = [_picture(digits, kinds, photographs, rng) for _ in range(count)]
    return np.stack([image for image, _ in found]), [boxes for _, boxes in found]


def _picture(
    digits: np.ndarray, kinds: np.ndarray, photographs: list[np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, Boxes]:
    photograph = photographs[rng.integers(len(photographs))]
    top, left = rng.integers(0, photograph.shape[0] - SIDE), rng.integers(0, photograph.shape[1] - SIDE)
    image = photograph[top : top + SIDE, left : left + SIDE].astype(np.float64) * rng.uniform(0.4, 1.0)
    if rng.random() < 0.5:
        image = image[:, ::-1].copy()
    free = np.ones((SIDE, SIDE), bool)
    boxes: Boxes = []
    for _ in range(int(rng.integers(1, 5))):
        which, zoom = int(rng.integers(len(digits))), int(rng.integers(2, 7))
        ink = _enlarged(digits[which] / 16, zoom)
        size = len(ink)
        top, left = rng.integers(0, SIDE - size, 2)
        place = slice(top, top + size), slice(left, left + size)
        if not free[place].all():
            continue
        free[place] = False
        paint = 255.0 if image[place].mean() < 128 else 0.0
        image[place] += (paint - image[place]) * ink[..., None]
        rows, columns = np.flatnonzero((ink > 0.2).any(axis=1)), np.flatnonzero((ink > 0.2).any(axis=0))
        box = np.array([left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1], np.float32)
        boxes.append((int(kinds[which]), box))
    return image.round().clip(0, 255).astype(np.uint8), boxes


def _enlarged(ink: np.ndarray, zoom: int) -> np.ndarray:
    """Return a digit some times as large, with soft edges."""
    found = nn.functional.interpolate(
        torch.from_numpy(ink)[None, None], scale_factor=zoom, mode="bilinear", align_corners=False
    )
    return found[0, 0].numpy()


class Yolo(nn.Module):
    """(1, 3, 160, 160) with values 0 to 1, to (1, 14, 500): for each place a box and ten scores."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Sequential(_block(3, 16, 2), _block(16, 32, 2), _block(32, 64, 2), _block(64, 64))
        self.fine = _block(64, 96)
        self.coarse = nn.Sequential(_block(64, 96, 2), _block(96, 96))
        self.heads = nn.ModuleList([nn.Conv2d(96, 4 + CLASSES, 1) for _ in STRIDES])
        for head in self.heads:
            nn.init.constant_(head.bias[4:], -4.6)  # type: ignore[index]
        cells = [np.mgrid[: SIDE // one, : SIDE // one][::-1].reshape(2, -1) * one for one in STRIDES]
        scale = np.repeat(STRIDES, [each.shape[1] for each in cells])
        corner = np.concatenate(cells, axis=1) - scale / 2
        self.register_buffer("corner", torch.from_numpy((corner / SIDE).astype(np.float32))[None])
        # A centre may be half a cell outside of its cell; a side is at most eight cells.
        self.register_buffer("reach", torch.from_numpy((scale * 2 / SIDE).astype(np.float32))[None, None])
        self.register_buffer("sides", torch.from_numpy((scale * 8 / SIDE).astype(np.float32))[None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.start(x)
        scales = self.fine(x), self.coarse(x)
        raw = [head(each).flatten(2) for head, each in zip(self.heads, scales, strict=True)]
        said = torch.sigmoid(torch.cat(raw, 2))
        centres = said[:, :2] * self.reach + self.corner
        return torch.cat([centres, said[:, 2:4] * self.sides, said[:, 4:]], 1)


def _block(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )


def answers(pictures: list[Boxes]) -> np.ndarray:
    """Return what each place should say, (n, 15, 500): box, ten scores, and 1 where there is a box at all."""
    counts = [(SIDE // one) ** 2 for one in STRIDES]
    wanted = np.zeros((len(pictures), 5 + CLASSES, sum(counts)), np.float32)
    for target, boxes in zip(wanted, pictures, strict=True):
        for kind, (left, top, right, bottom) in boxes:
            scale = int(max(right - left, bottom - top) > LARGE)
            stride, first, cells = STRIDES[scale], sum(counts[:scale]), SIDE // STRIDES[scale]
            x, y = (left + right) / 2, (top + bottom) / 2
            column, row = int(x / stride), int(y / stride)
            aside = column + (1 if x / stride - column > 0.5 else -1)
            above = row + (1 if y / stride - row > 0.5 else -1)
            for r, c in ((row, column), (row, aside), (above, column)):
                if 0 <= r < cells and 0 <= c < cells:
                    place = first + r * cells + c
                    target[:, place] = 0
                    target[:4, place] = np.array([x, y, right - left, bottom - top]) / SIDE
                    target[[4 + kind, 4 + CLASSES], place] = 1
    return wanted


def loss(wanted: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the scores, and one minus the overlap of the boxes, in places where there is one."""
    there = wanted[:, 4 + CLASSES] > 0
    count = there.sum().clamp(min=1)
    entropy = nn.functional.binary_cross_entropy(said[:, 4:], wanted[:, 4 : 4 + CLASSES], reduction="sum")
    true, found = (each[:, :4].transpose(1, 2)[there] for each in (wanted, said))
    low = torch.maximum(true[:, :2] - true[:, 2:] / 2, found[:, :2] - found[:, 2:] / 2)
    high = torch.minimum(true[:, :2] + true[:, 2:] / 2, found[:, :2] + found[:, 2:] / 2)
    both = (high - low).clamp(min=0).prod(1)
    overlap = both / (true[:, 2:].prod(1) + found[:, 2:].prod(1) - both)
    distance = (true - found).abs().sum(1) * SIDE / 8
    return (entropy + (3 * (1 - overlap) + distance).sum()) / count


def train(images: np.ndarray, boxes: list[Boxes]) -> Any:
    """Return the network after training."""
    network = Yolo()
    targets = torch.from_numpy(answers(boxes))
    steps = EPOCHS * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    for epoch in range(EPOCHS):
        order, sums = torch.randperm(len(images))[: len(images) // BATCH * BATCH], 0.0
        for some in order.split(BATCH):
            inputs = torch.from_numpy(images[some.numpy()]).permute(0, 3, 1, 2).float() / 255
            optimizer.zero_grad()
            error = loss(targets[some], network(inputs))
            error.backward()
            optimizer.step()
            schedule.step()
            sums += error.item()
        print(f"epoch {epoch + 1} of {EPOCHS}: {sums * BATCH / len(order):.3f}", flush=True)
    return network.eval()


if __name__ == "__main__":
    main()
