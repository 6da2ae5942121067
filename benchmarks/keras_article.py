"""The founding article's Keras script, with which whole runs are compared.

    python benchmarks/keras_article.py mnist.npz

It reads data from an .npz file and imports nothing of this project, because its time
counts from the start of the process
(`python scripts/bench_end_to_end.py --data_dir=DIR`).
"""

import sys


def train(path: str) -> None:
    """Train five epochs on the arrays of `path`, with a test after each."""
    import numpy as np
    import tensorflow as tf  # pyright: ignore[reportMissingImports]

    data = np.load(path)
    train_images, train_labels = data["train_images"] / 255.0, data["train_labels"]
    test = data["test_images"] / 255.0, data["test_labels"]
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
    model.fit(train_images, train_labels, epochs=5, validation_data=test)


if __name__ == "__main__":
    train(sys.argv[1])
