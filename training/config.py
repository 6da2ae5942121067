"""The configuration of a run: one frozen record, and what each of its fields means.

`training.canonical` checks it, and `training.flag_text` writes and reads it.
"""

from dataclasses import dataclass, fields

from training.options import option, own_seed, own_seeds, period


@dataclass(frozen=True)
class Config:
    """Everything that a run depends on; each field is a flag of `train.py`."""

    dataset: str = option(
        "digits",
        "data",
        "data set: digits, alice, path.npz, path.txt, or the name of one that "
        "tensorflow-datasets has prepared",
    )
    data_dir: str = option(
        "",
        "data",
        "directory with the data sets that tensorflow-datasets has prepared",
        resumable=True,
    )
    cache_dir: str = option(
        "",
        "data",
        "directory for decoded data and compiled programs (default: the user's cache)",
        resumable=True,
    )
    train_split: str = option(
        "train", "data", "split of a prepared data set to train on, e.g. 'train[:90%]'"
    )
    test_split: str = option(
        "test", "data", "split of a prepared data set to test on, e.g. validation"
    )
    in_memory_bytes: int = option(
        2**30,
        "data",
        "bytes of decoded images above which data stay on the disk and are streamed",
        (0, 2**63),
    )
    loader_threads: int = option(
        0,
        "data",
        "number of threads that read streamed data, in each process that reads (0: one "
        "per core, or one with --loader_processes)",
        (0, 2**10),
        resumable=True,
    )
    loader_processes: int = option(
        0,
        "data",
        "number of processes that read streamed training data (0: threads of this "
        "process read them)",
        (0, 2**10),
        resumable=True,
    )
    train_examples: int = option(
        0, "data", "number of training examples (0: all)", (0, 2**31)
    )
    validation_examples: int = option(
        0, "data", "number of examples held out from training", (0, 2**31)
    )
    model: str = option(
        "cnn",
        "model",
        "network with its options, e.g. 'mlp(widths=(1024, 1024))'; your own class or "
        "function is package.module:Name",
    )
    init: str = option(
        "",
        "model",
        "initial weights: FILE.safetensors, FILE.npz or the workdir of a finished run "
        "(default: random)",
    )
    dropout: str = option(
        "fc:bernoulli:0.5",
        "dropout",
        "plan: rules sites:variant:rate[@schedule], separated by spaces, or none",
    )
    dropout_schedule: str = option(
        "constant", "dropout", "schedule for rules that name none"
    )
    plugins: str = option(
        "",
        "dropout",
        "modules of your own that register variants and schedules, separated by commas",
    )
    rate_factor: float = option(
        1.0, "dropout", "factor that multiplies every dropout rate", (0, 1e9)
    )
    compute_dtype: str = option(
        "float32",
        "model",
        "type of activations, float32 or bfloat16; parameters stay float32",
        ("float32", "bfloat16"),
    )
    remat: str = option(
        "",
        "model",
        "patterns of the modules whose activations are computed again in the backward "
        "pass, which saves memory, e.g. 'block*'",
    )
    convolution: str = option(
        "auto",
        "model",
        "how a CPU computes convolutions: windows (faster steps, long compilation), "
        "direct, or auto (direct in a run too short to make up for the compilation)",
        ("auto", "windows", "direct"),
        resumable=True,
    )
    bits: str = option(
        "hash",
        "dropout",
        "generator of random bits for the masks: hash, or jax for JAX's own",
        ("hash", "jax"),
    )
    augment: str = option(
        "none",
        "data",
        "augmentations of training images, e.g. 'pad_crop(padding=4) flip "
        "mixup(alpha=0.2)', or 'resized_crop(size=224) randaugment flip' for images of "
        "many sizes",
    )
    epochs: int = option(
        20, "optimisation", "number of passes over the training data", (0, 10**9)
    )
    steps: int = option(
        0,
        "optimisation",
        "number of optimiser steps (0: as --epochs says)",
        (0, 10**12),
    )
    batch_size: int = option(
        64,
        "optimisation",
        "number of examples in a batch, over all devices",
        (1, 2**31),
    )
    steps_per_call: int = option(
        0,
        "optimisation",
        "number of steps in one call of the compiled program, at most 256 (0: 1 on a "
        "CPU, where a loop is slower, and up to 32 on a GPU or TPU)",
        (0, 256),
    )
    microbatches: int = option(
        1,
        "optimisation",
        "number of micro-batches into which a batch is split",
        (1, 2**31),
    )
    telemetry: bool = option(
        False, "dropout", "log what dropout does at each site with a rule"
    )
    consistency: str = option(
        "none",
        "dropout",
        "penalty on disagreement between draws of the masks: none, rdrop(alpha=1.0), "
        "fraternal, pi_model or expectation_linear",
    )
    samples_per_step: int = option(
        1, "dropout", "number of draws of each example's masks in a step", (1, 2**10)
    )
    dropout_learning_rate: float = option(
        0.0,
        "dropout",
        "learning rate for what variants learn (0: --learning_rate)",
        (0, 1e9),
    )
    optimizer: str = option(
        "adam",
        "optimisation",
        "optimiser with its options: adam, adamw, sgd, lars or lamb",
    )
    learning_rate: float = option(
        1e-3, "optimisation", "highest learning rate", (0, 1e9)
    )
    learning_rate_schedule: str = option(
        "constant",
        "optimisation",
        "learning-rate schedule: constant, cosine(warmup=0.05) or stepped(at=(0.5,), "
        "factor=0.1)",
    )
    learning_rate_batch: int = option(
        0,
        "optimisation",
        "batch size for which --learning_rate is meant; for another --batch_size the "
        "rate is scaled in proportion (0: not scaled)",
        (0, 2**31),
    )
    weight_decay: float = option(
        0.0,
        "optimisation",
        "weight decay on kernels; decoupled for adamw and lamb, coupled for the others",
        (0, 1e9),
    )
    train_only: str = option(
        "",
        "optimisation",
        "patterns of the parameters that are trained, e.g. 'block4 out'; all others "
        "stay as they are (default: all are trained)",
    )
    max_norm: float = option(
        0.0,
        "optimisation",
        "bound on the norm of each unit's incoming weights (0: none)",
        (0, 1e9),
    )
    clip_norm: float = option(
        0.0,
        "optimisation",
        "bound on the global norm of the gradient (0: none)",
        (0, 1e9),
    )
    ema: float = option(
        0.0,
        "optimisation",
        "share that the moving average of the parameters keeps at each step, e.g. "
        "0.9999; it is evaluated beside the last parameters (0: no average)",
        (0, 1 - 1e-9),
    )
    label_smoothing: float = option(
        0.0,
        "optimisation",
        "share of each label's weight that is spread over all classes",
        (0, 1),
    )
    seed: int = option(
        0, "optimisation", "seed for parameters, data order and masks", (0, 2**32 - 1)
    )
    subset_seed: int = own_seed("choice of the training and the held-out examples")
    init_seed: int = own_seed("initial parameters")
    data_seed: int = own_seed("order and augmentation of the examples")
    mask_seed: int = own_seed("masks of dropout")
    seeds: str = option(
        "",
        "optimisation",
        "seeds of a population, whose members are trained together: 0:16 or 0,3,5",
    )
    rate_factors: str = option(
        "", "dropout", "with --seeds: one --rate_factor per member, e.g. 0.5,1.0"
    )
    learning_rates: str = option(
        "", "optimisation", "with --seeds: one --learning_rate per member"
    )
    weight_decays: str = option(
        "", "optimisation", "with --seeds: one --weight_decay per member"
    )
    subset_seeds: str = own_seeds("subset_seed")
    init_seeds: str = own_seeds("init_seed")
    data_seeds: str = own_seeds("data_seed")
    mask_seeds: str = own_seeds("mask_seed")
    mesh: str = option(
        "",
        "devices",
        "devices to use: data:N, or members:N with --seeds (default: all devices)",
        resumable=True,
    )
    deterministic: bool = option(
        False, "devices", "make runs on a GPU repeatable bit for bit, which is slower"
    )
    on_nan: str = option(
        "stop",
        "optimisation",
        "what to do when a loss or gradient is not finite: stop, or skip the step",
        ("stop", "skip"),
    )
    log_every: int = period(
        "number of steps between training lines (0: an epoch; never: no such lines)"
    )
    test_every: int = period(
        "number of steps between tests (0: an epoch; never: only after the last step)"
    )
    evaluate_train: bool = option(
        True,
        "record",
        "evaluate the training examples, too, at the end of the run",
        resumable=True,
    )
    save_every: int = period(
        "number of steps between checkpoints (0: an epoch; never: only after the last "
        "step)"
    )
    tracker: str = option(
        "tensorboard",
        "record",
        "trackers that show the run, separated by commas: tensorboard, wandb, mlflow; "
        "or none",
        resumable=True,
    )
    profile: str = option(
        "",
        "record",
        "steps to profile, START:STOP, e.g. 20:25 for the steps 20 to 24; the trace is "
        "in the workdir (default: none)",
        resumable=True,
    )
    workdir: str = option(
        "",
        "record",
        "directory for the run's record (default: runs/<data>-<model>-<digest>)",
        resumable=True,
    )


FIELDS = {item.name: item for item in fields(Config)}
