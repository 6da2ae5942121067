"""Types of the arrays that variants take."""

from collections.abc import Callable

from jaxtyping import Array, Float

Examples = Float[Array, "n ..."]
Positions = Float[Array, "n *positions c"]  # tokens, or a feature map
Maps = Float[Array, "n height width channels"]
Kernel = Float[Array, "*taps inputs outputs"]
KernelCopies = Float[Array, "n *taps inputs outputs"]
Operation = Callable[[Array, Array], Array]  # (x, kernel) -> product
