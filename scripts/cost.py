"""Compiles the training step of a run and prints its FLOPs and its memory.

    python scripts/cost.py --model='resnet(depth=20)' --batch_size=128
    python scripts/cost.py --model=vit_small --remat='block*' --compute_dtype=bfloat16

It takes the flags of `train.py`, trains nothing and writes no record. The memory is of
the device on which it runs: what is printed on a CPU is no estimate for a GPU, which
fuses otherwise.
"""

from training.canonical import canonical
from training.experiment import prepare
from training.flags import define_config_flags, given_config, given_launch
from training.record.demand import compiled_cost, demand
from training.runtime.compilation import set_up
from training.runtime.main import expect_no_arguments, run_main

define_config_flags()


def main(arguments: list[str]) -> None:
    """Read the flags, compile the step and print what it takes."""
    expect_no_arguments(arguments)
    experiment = prepare(set_up(canonical(given_config()), given_launch()))
    print("\n".join([*demand(experiment), *compiled_cost(experiment)]))


if __name__ == "__main__":
    run_main(main)
