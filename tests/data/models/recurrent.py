"""Make the ``keras_*.tflite`` here. Needs TensorFlow 2.21: run it with ``.venv-convert/bin/python``."""

from pathlib import Path

import keras
import tensorflow as tf

keras.utils.set_random_seed(3)
for name, layer in {
    "gru": keras.layers.GRU(2),
    "rnn": keras.layers.SimpleRNN(2),
    "lstm": keras.layers.LSTM(2),
    "lstm_stateful": keras.layers.LSTM(2, stateful=True),
}.items():
    model = keras.Sequential([keras.Input((4, 1), batch_size=1), layer, keras.layers.Dense(1)])
    content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    Path(__file__).with_name(f"keras_{name}.tflite").write_bytes(content)
