"""LSTM and GRU networks that read an image row by row, from the top."""

from typing import ClassVar

from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop, identity
from models.convolution import Images
from models.layers import Dense, Size, require_widths
from models.recurrence import Recurrence


class RowRNN(nnx.Module):
    """One layer of cells that reads the rows of an image, and a dense layer after it.

    A subclass names the kind of its cells, which is also the name of the layer.
    """

    cell: ClassVar[str]

    def __init__(
        self,
        image: tuple[int, int, int],
        classes: int,
        key: Key[Array, ""],
        *,
        units: Size = 128,
    ):
        cell = self.cell
        require_widths(cell, (units,), 1)
        features = image[1] * image[2]
        setattr(self, cell, Recurrence(cell, cell, features, units, key))
        self.out = Dense("out", (units, classes), key=key)

    def __call__(
        self, images: Images, drop: Drop = identity
    ) -> Float[Array, "n classes"]:
        """Map images (n, h, w, c) to logits (n, classes); the height is the time."""
        x = drop("input", images)
        rows = drop("rows", x.reshape(*x.shape[:2], -1))
        hidden = getattr(self, self.cell)(rows, drop)
        return self.out(drop("features", hidden[:, -1]), drop)


class LSTM(RowRNN):
    """Long short-term memory (Hochreiter & Schmidhuber 1997, Gers et al. 2000)."""

    cell = "lstm"


class GRU(RowRNN):
    """Gated recurrent units (Cho et al. 2014)."""

    cell = "gru"
