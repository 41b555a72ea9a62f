"""Distillation: a small network learns what a large one makes of each image, not just the right answer.

The loss is that of Hinton and others (2015): cross entropy with the truth, and with the teacher's answers
softened by a temperature.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
import torch
from common import Digits, keras_fit, keras_network, measure, pictures, tell, torch_fit, torch_network

TEACHER, STUDENT = (32, 64, 96), (4, 6, 16)
EPOCHS, STUDIED = 15, 30
TEMPERATURE, SHARE = 4.0, 0.7


def keras_recipe(digits: Digits) -> dict[str, dict[str, float]]:
    teacher, alone, student = keras_network(TEACHER), keras_network(STUDENT), keras_network(STUDENT)
    keras_fit(teacher, digits, EPOCHS)
    keras_fit(alone, digits, STUDIED)
    soft = tf.nn.softmax(teacher(digits.images) / TEMPERATURE).numpy()
    optimizer, truth = keras.optimizers.Adam(), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer.build(student.trainable_variables)

    @tf.function(reduce_retracing=True)
    def step(images: Any, classes: Any, softened: Any) -> None:
        with tf.GradientTape() as tape:
            said = student(images, training=True)
            distance = tf.nn.softmax_cross_entropy_with_logits(softened, said / TEMPERATURE)
            error = SHARE * TEMPERATURE**2 * tf.reduce_mean(distance) + (1 - SHARE) * truth(classes, said)
        variables = student.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(error, variables), variables, strict=True))

    for batch in digits.batches(STUDIED):
        step(digits.images[batch], digits.classes[batch], soft[batch])
    networks = {"teacher": teacher, "student alone": alone, "student taught": student}
    return {f"Keras, {name}": measure(network, digits) for name, network in networks.items()}


def torch_recipe(digits: Digits) -> dict[str, dict[str, float]]:
    teacher, alone, student = torch_network(TEACHER), torch_network(STUDENT), torch_network(STUDENT)
    torch_fit(teacher, digits, EPOCHS)
    torch_fit(alone, digits, STUDIED)
    x, y = pictures(digits.images), torch.from_numpy(digits.classes)
    with torch.no_grad():
        soft = torch.softmax(teacher(x) / TEMPERATURE, 1)
    optimizer = torch.optim.Adam(student.parameters())
    entropy = torch.nn.functional.cross_entropy
    for batch in digits.batches(STUDIED):
        optimizer.zero_grad()
        said = student(x[batch])
        error = SHARE * TEMPERATURE**2 * entropy(said / TEMPERATURE, soft[batch])
        (error + (1 - SHARE) * entropy(said, y[batch])).backward()
        optimizer.step()
    networks = {"teacher": teacher, "student alone": alone, "student taught": student}
    return {f"PyTorch, {name}": measure(network, digits) for name, network in networks.items()}


if __name__ == "__main__":
    data = Digits()
    tell(keras_recipe(data) | torch_recipe(data))
