"""Networks of a user's own: `--model=package.module:Name(option=value)`.

`Name` is a subclass of `flax.nnx.Module`, or a function that returns a module. It gets
those of these values that it has parameters for; all other parameters are options:

| parameter | value |
|---|---|
| `image` | the shape of an image, (height, width, channels) |
| `channels` | the number of channels |
| `classes` or `num_classes` | the number of classes |
| `rngs` | `nnx.Rngs` whose keys follow from the seed of the run |
| `key` | a typed key that follows from the seed of the run |

The module is called with images (n, height, width, channels) and returns logits
(n, classes). It also gets those of these values that its `__call__` has parameters for:

| parameter | value |
|---|---|
| `drop` | the function to call at each site; without it the plan is attached |
| `row_weights` | in training one weight per image, 0 for padding; None at test |
| `train` or `training` | True in training, False at test |
| `deterministic` | False in training, True at test |
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx
from jaxtyping import Array, Float, Key

from dropout import Drop
from dropout.grammar import Call, suggest
from models.convolution import Images
from models.norms import RowWeights
from models.own_modules import find

GIVEN = ("image", "channels", "classes", "num_classes", "rngs", "key")
IN_CALLS = ("drop", "row_weights", "train", "training", "deterministic")
# Parameters that a call by name cannot reach.
STARRED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def is_own(call: Call) -> bool:
    """Return whether a call names something in a module of the user's own."""
    return ":" in call.name


def check_own(call: Call) -> None:
    """Check that a module has a network of this name, which takes these options.

    Raises:
        ValueError: it has not; the message says what is expected.
    """
    parameters = parameters_of(find(call.name))
    options, own = dict(call.options), [n for n in parameters if n not in GIVEN]
    for name in options:
        if name not in parameters:
            raise ValueError(
                f"--model={call.name} has no option {name!r}{suggest(name, own)}."
            )
    for name in own:
        if parameters[name].default is inspect.Parameter.empty and name not in options:
            raise ValueError(
                f"--model={call.name}: its parameter {name!r} has no default; expected "
                f"{call.name}({name}=...). Given by name are {', '.join(GIVEN)}."
            )


def create_own(
    call: Call, image: tuple[int, int, int], classes: int, key: Key[Array, ""]
) -> nnx.Module:
    """Return a new network for images of shape (h, w, c); its options come first.

    Raises:
        ValueError: it is no NNX module that can be called with images alone.
    """
    entry, options = find(call.name), dict(call.options)
    given = {
        "image": image, "channels": image[2], "classes": classes,
        "num_classes": classes, "rngs": nnx.Rngs(key), "key": key,
    }  # fmt: skip
    wanted = {name: given[name] for name in parameters_of(entry) if name in given}
    model = entry(**{**wanted, **options})
    if not isinstance(model, nnx.Module) or not callable(model):
        raise ValueError(
            f"--model={call.name} is a {type(model).__name__}; expected a Flax NNX "
            "module with __call__(images) (nnx.bridge.ToNNX makes one of a Linen one)."
        )
    _check_call(call.name, model)
    return model


def call_own(
    model: nnx.Module, images: Images, drop: Drop, row_weights: RowWeights
) -> Float[Array, "n *positions classes"]:
    """Call a network with images and what else it takes.

    Its batch norms use the statistics of the batch if there are `row_weights`, and
    their running statistics otherwise.
    """
    training = row_weights is not None
    # Dropout layers draw at their sites; left alone, one would draw the same each step.
    model.set_attributes(
        use_running_average=not training, deterministic=True, raise_if_not_found=False
    )
    given = {
        "drop": drop, "row_weights": row_weights, "train": training,
        "training": training, "deterministic": not training,
    }  # fmt: skip
    return model(images, **{name: given[name] for name in taken_by(model)})


def taken_by(model: nnx.Module) -> tuple[str, ...]:
    """Return which of `IN_CALLS` a network's `__call__` takes."""
    return tuple(name for name in _inputs_of(model) if name in IN_CALLS)


def parameters_of(entry: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters by which a class or a function can be called."""
    # The signature of an NNX class itself is `(*args, **kwargs)`.
    function = entry.__init__ if isinstance(entry, type) else entry
    found = inspect.signature(function).parameters.items()
    skipped = 1 if isinstance(entry, type) else 0
    return {n: p for n, p in list(found)[skipped:] if p.kind not in STARRED}


def _check_call(name: str, model: nnx.Module) -> None:
    inputs = _inputs_of(model)
    required = [n for n, p in inputs.items() if p.default is inspect.Parameter.empty]
    first = next(iter(inputs), None)
    others = [n for n in required if n not in (first, *IN_CALLS)]
    if first is None or first in IN_CALLS or others:
        raise ValueError(
            f"--model={name}: its __call__ takes ({', '.join(inputs)}); expected "
            f"images first, and else only {', '.join(IN_CALLS)}, or defaults."
        )
    if "drop" in inputs and any(_has_own_dropout(model)):
        raise ValueError(
            f"--model={name} takes `drop` and has Dropout layers of its own; expected "
            "one of the two (without `drop` they are sites of the plan)."
        )


def _has_own_dropout(model: nnx.Module) -> list[bool]:
    return [
        isinstance(module, nnx.Dropout)
        or (isinstance(module, nnx.MultiHeadAttention) and module.dropout_rate > 0)
        for _, module in nnx.iter_modules(model)
    ]


def _inputs_of(model: nnx.Module) -> Mapping[str, inspect.Parameter]:
    found = inspect.signature(type(model).__call__).parameters.items()
    return {n: p for n, p in list(found)[1:] if p.kind not in STARRED}
