"""A small network (PyTorch) that predicts how a disease progresses: 442 patients, from scikit-learn."""

from pathlib import Path

import numpy as np
import torch

BUILD = Path(__file__).parent / "build"
TRAINED, EPOCHS = 300, 60
MEAN, STD = 152.1, 77.0
WIDTH = 384


def main() -> None:
    from sklearn.datasets import load_diabetes

    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(1)
    torch.manual_seed(11)
    BUILD.mkdir(exist_ok=True)
    data = load_diabetes()
    # The package scales each column to a standard deviation of 1 / sqrt(442).
    inputs, targets = data.data.astype(np.float32), data.target.astype(np.float32)
    order = np.random.default_rng(11).permutation(len(inputs))
    train, test = order[:TRAINED], order[TRAINED:]
    network = torch.nn.Sequential(
        torch.nn.Linear(10, WIDTH),
        torch.nn.ReLU(),
        torch.nn.Linear(WIDTH, WIDTH),
        torch.nn.ReLU(),
        torch.nn.Linear(WIDTH, 1),
    )
    x = torch.from_numpy(inputs[train] * np.float32(21))
    y = torch.from_numpy((targets[train] - MEAN) / STD)[:, None]
    optimizer = torch.optim.AdamW(network.parameters(), 3e-4, weight_decay=0.1)
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(network(x), y).backward()
        optimizer.step()
    program = torch.export.export(network.eval(), (x[:1],))
    torch.export.save(program, BUILD / "model.pt2")
    np.save(BUILD / "calibration.npy", inputs[train])
    np.save(BUILD / "test.npy", inputs[test])
    np.save(BUILD / "targets.npy", (targets[test] - MEAN) / STD)


if __name__ == "__main__":
    main()
