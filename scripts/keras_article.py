"""The founding article's Keras script, on data in an .npz: the peer of a whole run.

python scripts/keras_article.py mnist.npz
"""

import sys

import numpy as np
import tensorflow as tf

data = np.load(sys.argv[1])
train_images, test_images = data["train_images"] / 255.0, data["test_images"] / 255.0
train_labels, test_labels = data["train_labels"], data["test_labels"]
model = tf.keras.Sequential(
    [
        tf.keras.layers.Input((28, 28, 1)),
        tf.keras.layers.Conv2D(32, (3, 3), activation="relu"),
        tf.keras.layers.MaxPooling2D((2, 2)),
        tf.keras.layers.Conv2D(64, (3, 3), activation="relu"),
        tf.keras.layers.MaxPooling2D((2, 2)),
        tf.keras.layers.Flatten(),
        tf.keras.layers.Dense(128, activation="relu"),
        tf.keras.layers.Dropout(0.5),
        tf.keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile(
    optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"]
)
model.fit(
    train_images, train_labels, epochs=5, validation_data=(test_images, test_labels)
)
