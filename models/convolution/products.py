"""Products of matrices over the channels of images, in a form fast on XLA:CPU."""

import jax
from jax.lax import optimization_barrier as materialize
from jaxtyping import Array, Float

Images = Float[Array, "n _height _width _channels"]
PixelRows = Float[Array, "... _rows _channels"]
Matrix = Float[Array, "... _inputs _outputs"]


def product(x: Images, matrix: Matrix) -> Images:
    """Multiply the channels of an image by a matrix, without fusion with neighbours."""
    return products([x], [matrix])[0]


def products(images: list[Images], matrices: list[Matrix]) -> list[Images]:
    """Multiply the channels of each image, all of one shape, by the image's matrix."""
    found = multiplied([as_rows(x) for x in images], matrices)
    return [rows.reshape(*images[0].shape[:3], -1) for rows in found]


def as_rows(x: Images) -> PixelRows:
    """Return a matrix with a row for each pixel."""
    return materialize(x.reshape(-1, x.shape[-1]))


@jax.custom_vjp
def multiplied(rows: list[PixelRows], matrices: list[Matrix]) -> list[PixelRows]:
    """Return the product of each array of rows with its matrix."""
    return materialize([each @ matrix for each, matrix in zip(rows, matrices)])


def _multiplied_forward(rows: list[PixelRows], matrices: list[Matrix]) -> tuple:
    return multiplied(rows, matrices), (rows, matrices)


def _multiplied_backward(
    operands: tuple[list[PixelRows], list[Matrix]], cotangents: list[PixelRows]
) -> tuple[list[PixelRows], list[Matrix]]:
    rows, matrices = operands
    errors = materialize(cotangents)
    of_rows = [error @ matrix.mT for error, matrix in zip(errors, matrices)]
    # If the products were computed one after another, each would be written into the
    # memory of the last one's operands and would have to wait for it. With all products
    # of a kind at once, and the errors kept to the end, `lenet` takes 0.9 of the time
    # (`scripts/bench.py --parts=steps --models=lenet --batch_sizes=128`).
    of_rows, errors = materialize((of_rows, errors))
    of_matrices = [each.mT @ error for each, error in zip(rows, errors)]
    return materialize((of_rows, of_matrices, errors))[:2]


multiplied.defvjp(_multiplied_forward, _multiplied_backward)
