"""Sequences and tables: motions, sleep, bytes of files, words, measurements."""

from __future__ import annotations

import json
import shutil
import site
import zipfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from real_models import material
from real_models.entry import Entry, Made, packaged


def _motions(file: Path) -> Made:
    calibration, _ = material.motions("TRAIN")
    test, targets = material.motions("TEST")
    return Made(file, calibration, test, targets, material.MOTIONS)


def _trained_keras(folder: Path, layer: str) -> Made:
    import keras

    keras.utils.set_random_seed(7)
    layers = keras.layers
    kind = layers.LSTM(32) if layer == "lstm" else layers.Bidirectional(layers.GRU(24))
    network = keras.Sequential([keras.Input((50, 6)), kind, layers.Dense(4, activation="softmax")])
    network.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    network.fit(*material.motions("TRAIN"), epochs=15, batch_size=16, verbose=0)
    network.save(folder / "model.keras")
    return _motions(folder / "model.keras")


def _keras_lstm(folder: Path) -> Made:
    return _trained_keras(folder, "lstm")


def _keras_gru(folder: Path) -> Made:
    return _trained_keras(folder, "gru")


def _trained_torch(folder: Path, network: Any) -> Made:
    import torch

    torch.set_num_threads(1)
    values, targets = (torch.from_numpy(one) for one in material.motions("TRAIN"))
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    network.train()
    for _ in range(15):
        for rows in torch.randperm(len(values)).split(16):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(values[rows]), targets[rows]).backward()
            optimizer.step()
    torch.export.save(torch.export.export(network.eval(), (torch.zeros(1, 50, 6),)), folder / "model.pt2")
    return _motions(folder / "model.pt2")


def _torch_gru(folder: Path) -> Made:
    import torch
    from torch import nn

    class Network(nn.Module):
        """The last state of both directions."""

        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(6, 24, batch_first=True, bidirectional=True)
            self.head = nn.Linear(48, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found, _ = self.gru(x)
            return self.head(torch.cat([found[:, -1, :24], found[:, 0, 24:]], 1))

    torch.manual_seed(7)
    return _trained_torch(folder, Network())


def _torch_encoder(folder: Path) -> Made:
    import torch
    from torch import nn

    class Network(nn.Module):
        """Two layers of attention over 50 steps."""

        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(6, 32)
            self.place = nn.Parameter(torch.randn(1, 50, 32) * 0.1)
            layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(32, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.encoder(self.embed(x) + self.place).mean(1))

    torch.manual_seed(7)
    return _trained_torch(folder, Network())


def _bert(folder: Path) -> Made:
    import torch
    from torch import nn
    from transformers import BertConfig, BertModel

    class Words(nn.Module):
        """BERT's first vector, of numbers of words."""

        def __init__(self) -> None:
            super().__init__()
            config = BertConfig(
                vocab_size=2000,
                hidden_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=128,
                max_position_embeddings=64,
                attn_implementation="eager",
            )
            self.bert = BertModel(config)

        def forward(self, words: torch.Tensor) -> torch.Tensor:
            return self.bert(input_ids=words, attention_mask=torch.ones_like(words)).pooler_output

    torch.manual_seed(7)
    words = material.random("bert").integers(0, 2000, (96, 32))
    torch.export.save(
        torch.export.export(Words().eval(), (torch.zeros(1, 32, dtype=torch.int64),)), folder / "model.pt2"
    )
    return Made(folder / "model.pt2", words[:48], words[48:])


def _syllables(folder: Path) -> Made:
    """attacut-c's network, whose package imports more than it needs, without the lengths that it ignores."""
    import torch
    from torch import nn

    kept = torch.load(packaged("attacut/artifacts/attacut-c/model.pth"), map_location="cpu", weights_only=True)
    tokens, size = kept["embeddings.weight"].shape

    class Characters(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embeddings = nn.Embedding(tokens, size)
            self.conv1 = nn.Conv1d(size, 196, 3, padding=1)
            self.conv2 = nn.Conv1d(size, 196, 5, padding=6, dilation=3)
            self.conv3 = nn.Conv1d(size, 196, 9, padding=8, dilation=2)
            self.linear1 = nn.Linear(196, 32)
            self.linear2 = nn.Linear(32, 1)

        def forward(self, characters: torch.Tensor) -> torch.Tensor:
            x = self.embeddings(characters).transpose(1, 2)
            x = torch.maximum(torch.maximum(self.conv1(x), self.conv2(x)), self.conv3(x))
            return self.linear2(torch.relu(self.linear1(x.transpose(1, 2))))[..., 0]

    network = Characters().eval()
    network.load_state_dict({name.replace(".conv.", "."): value for name, value in kept.items()})
    program = torch.export.export(network, (torch.zeros(1, 64, dtype=torch.int64),))
    torch.export.save(program, folder / "model.pt2")
    text = material.random("thai").integers(1, tokens, (96, 64))
    return Made(folder / "model.pt2", text[:48], text[48:])


def _sleep(folder: Path) -> Made:
    with zipfile.ZipFile(packaged("sleepecg/classifiers/wrn-gru-mesa.zip")) as archive:
        archive.extract("classifier.keras", folder)
    features = material.random("sleep").normal(0, 1, (48, 40, 36)).astype(np.float32)
    return Made(folder / "classifier.keras", features[:24], features[24:])


def _bytes(path: Path, side: int, padding: int) -> list[int]:
    """Return a file's beginning and end without white space, as magika reads them."""
    content = path.read_bytes()
    begin, end = content[:4096].lstrip()[:side], content[-4096:].rstrip()[-side:]
    return [*begin, *[padding] * (side - len(begin)), *[padding] * (side - len(end)), *end]


_ENDINGS = {
    ".py": "python", ".json": "json", ".png": "png", ".css": "css", ".js": "javascript", ".pyc": "pythonbytecode",
    ".ttf": "ttf", ".svg": "svg", ".toml": "toml", ".pdf": "pdf", ".npz": "npz", ".csv": "csv", ".html": "html",
}  # fmt: skip


def _magika(folder: Path) -> Made:
    config = json.loads(packaged("magika/models/standard_v3_3/config.min.json").read_text())
    labels, padding = config["target_labels_space"], config["padding_token"]
    rows: list[tuple[list[int], int]] = []
    roots = [
        Path(site.getsitepackages()[0]) / name
        for name in ("matplotlib", "sklearn", "torch", "tensorflow", "numpy")
    ]
    for ending, label in _ENDINGS.items():
        if label not in labels:
            continue
        found = (path for root in roots for path in sorted(root.rglob(f"*{ending}")) if path.stat().st_size > 1000)
        rows += [(_bytes(path, config["beg_size"], padding), labels.index(label)) for path in islice(found, 12)]
    values, targets = np.array([row for row, _ in rows], np.int32), np.array([target for _, target in rows])
    file = shutil.copyfile(packaged("magika/models/standard_v3_3/model.onnx"), folder / "model.onnx")
    return Made(file, values[::2], values[1::2], targets[1::2], labels)


def _digits(folder: Path, network: Any) -> Made:
    from skl2onnx import to_onnx
    from sklearn.datasets import load_digits

    digits = load_digits()
    values, targets = (digits.data / 16).astype(np.float32), digits.target
    network.fit(values[:1200], targets[:1200])
    made = to_onnx(network, values[:1], options={"zipmap": False})
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    return Made(folder / "model.onnx", values[:200], values[1200:], targets[1200:], [str(n) for n in range(10)])


def _perceptron(folder: Path) -> Made:
    from sklearn.neural_network import MLPClassifier

    return _digits(folder, MLPClassifier((64, 32), max_iter=60, random_state=7))


def _forest(folder: Path) -> Made:
    from sklearn.ensemble import RandomForestClassifier

    return _digits(folder, RandomForestClassifier(20, random_state=7))


def _components(folder: Path) -> Made:
    file = shutil.copyfile(
        packaged("mne_icalabel/iclabel/network/assets/ICLabelNet.onnx"), folder / "ICLabelNet.onnx"
    )
    shapes = {"topo": (16, 1, 32, 32), "psds": (16, 1, 1, 100), "autocorr": (16, 1, 1, 100)}
    return Made(file, inputs={name: material.noise(name, shape, -1.0, 1.0) for name, shape in shapes.items()})


ENTRIES = [
    Entry(
        "lstm-keras",
        "LSTM of 32, 50 steps",
        "keras",
        "Apache-2.0",
        "trained here",
        "BasicMotions of aeon",
        _keras_lstm,
    ),
    Entry(
        "gru-keras",
        "bidirectional GRU of 24, 50 steps",
        "keras",
        "Apache-2.0",
        "trained here",
        "BasicMotions of aeon",
        _keras_gru,
    ),
    Entry(
        "gru-torch",
        "bidirectional GRU of 24, 50 steps",
        "torch",
        "BSD-3-Clause",
        "trained here",
        "BasicMotions of aeon",
        _torch_gru,
        '{ layout = "as_is" }',
    ),
    Entry(
        "encoder-torch",
        "transformer encoder, two layers",
        "torch",
        "BSD-3-Clause",
        "trained here",
        "BasicMotions of aeon",
        _torch_encoder,
        '{ layout = "as_is" }',
    ),
    Entry(
        "bert-tiny",
        "BERT of two layers; int64 embedding",
        "transformers",
        "Apache-2.0",
        "random",
        "random words",
        _bert,
        '{ layout = "as_is" }',
    ),
    Entry(
        "attacut",
        "where Thai words begin; int64 embedding",
        "attacut",
        "MIT",
        "trained",
        "random characters",
        _syllables,
        '{ layout = "as_is" }',
    ),
    Entry(
        "sleepecg",
        "stages of sleep: two bidirectional GRUs, masked",
        "sleepecg",
        "BSD-3-Clause",
        "trained",
        "random features",
        _sleep,
        "{ shape = [40, 36] }",
    ),
    Entry(
        "magika",
        "what kind of file it is; int32 input, open batch",
        "magika",
        "Apache-2.0",
        "trained",
        "files of packages",
        _magika,
        '{ layout = "as_is" }',
    ),
    Entry(
        "mlp-sklearn",
        "scikit-learn's perceptron",
        "skl2onnx",
        "Apache-2.0",
        "trained here",
        "digits of scikit-learn",
        _perceptron,
    ),
    Entry(
        "forest-sklearn",
        "scikit-learn's random forest",
        "skl2onnx",
        "Apache-2.0",
        "trained here",
        "digits of scikit-learn",
        _forest,
    ),
    Entry(
        "iclabel",
        "what a component of EEG is; three inputs",
        "mne-icalabel",
        "BSD-3-Clause",
        "trained",
        "noise",
        _components,
    ),
]
