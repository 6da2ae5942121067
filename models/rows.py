"""Recurrent networks that read an image row by row, from the top."""

from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop, identity
from models.layers import Dense, Images, require_widths
from models.recurrence import Recurrence


class RowReader(nnx.Module):
    """One layer of cells over the rows of an image, and a dense layer after it."""

    def __init__(
        self,
        cell: str,
        image: tuple[int, int, int],
        classes: int,
        key: Key[Array, ""],
        units: int,
    ):
        require_widths(cell, (units,), 1)
        self.name = cell
        features = image[1] * image[2]
        setattr(self, cell, Recurrence(cell, cell, features, units, key))
        self.out = Dense("out", (units, classes), key=key)

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites in the order in which they are called."""
        return (
            "input",
            "rows",
            *getattr(self, self.name).sites,
            "features",
            "out/kernel",
        )

    def __call__(
        self, images: Images, drop: Drop = identity
    ) -> Float[Array, "n classes"]:
        """Images (n, h, w, c) -> logits (n, classes); row by row, h is the time."""
        x = drop("input", images)
        rows = drop("rows", x.reshape(*x.shape[:2], -1))
        hidden = getattr(self, self.name)(rows, drop)
        return self.out(drop("features", hidden[:, -1]), drop)


def lstm(
    image: tuple[int, int, int], classes: int, key: Key[Array, ""], *, units: int = 128
) -> RowReader:
    """An LSTM over the rows of an image (Hochreiter & Schmidhuber 1997, Gers 2000)."""
    return RowReader("lstm", image, classes, key, units)


def gru(
    image: tuple[int, int, int], classes: int, key: Key[Array, ""], *, units: int = 128
) -> RowReader:
    """Gated recurrent units over the rows of an image (Cho et al. 2014)."""
    return RowReader("gru", image, classes, key, units)
