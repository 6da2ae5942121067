"""Malformed input ends in one line that names what is wrong and what is allowed."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from absl import app, flags
from absl.testing import flagsaver
from paths import ROOT
from small_run import write_stripes
from tiny_data import example, pixels, prepare, record_of, write_records

import train
from training.runtime.main import with_errors_in_one_line

DATA = "--dataset={data}"

FLAGS = [
    ("--epoch=3", "'epoch'"),
    ("--epochs=many", "epochs"),
    ("--epochs=-1", "--epochs=-1 [0, 1000000000]"),
    ("--epochs=0", "--epochs=0 --steps=0 positive"),
    ("--epochs=3 --steps=5", "--epochs=3 --steps=5 exactly"),
    ("--batch_size=0", "--batch_size=0 [1,"),
    ("--batch_size=64 --microbatches=5", "--microbatches=5 --batch_size=64"),
    (f"{DATA} --batch_size=1000", "--batch_size=1000 96"),
    ("--learning_rate=nan", "--learning_rate=nan [0,"),
    ("--learning_rate=-1", "--learning_rate=-1.0 [0,"),
    ("--label_smoothing=2", "--label_smoothing=2.0 [0, 1]"),
    ("--weight_decay=-0.1", "--weight_decay=-0.1 [0,"),
    ("--seed=-1", "--seed=-1 [0,"),
    ("--bits=xor", "--bits=xor hash jax"),
    ("--on_nan=ignore", "--on_nan=ignore stop skip"),
    ("--optimizer=adm", "'adm' 'adam' sgd"),
    ("--optimizer=sgd(momentum='x')", "momentum='x' float"),
    ("--learning_rate_schedule=cos", "'cos' cosine"),
    ("--model=resnot", "'resnot' cnn"),
    ("--model=cnn(widths=3)", "widths=3 tuple"),
    ("--model=cnn(width=(1,2))", "'width' 'widths'"),
    ("--model=__import__('os').system('x')", "expected name"),
    ("--augment=flop", "'flop' flip"),
    ("--dropout_schedule=erly", "'erly' 'early'"),
    ("--mesh=data:0", "--mesh=data:0 data:N"),
    ("--mesh=model:2", "--mesh=model:2 data:N"),
    ("--mesh=data:x", "--mesh=data:x data:N"),
    ("--workdir={file}", "--workdir={file} directory"),
    ("--cache_dir={file}", "--cache_dir={file} directory"),
    ("train", "'train' --"),
    ("--flagfile={directory}/none.flags", "none.flags"),
    ("--flagfile={file}", "'precious' --"),
    ("--flagfile={typo}", "'epoch'"),
    ("--deterministic=perhaps", "deterministic"),
    (f"{DATA} --train_examples=1000000", "1000000 96"),
    (f"{DATA} --validation_examples=96", "validation_examples=96 96"),
    ("--processes=2", "--processes --coordinator=host:port"),
    ("--coordinator=a:1 --processes=2 --process_id=5", "--process_id=5 from"),
]
PLANS = [
    ("fc", "'fc' sites:variant:rate"),
    ("fc:bernoulli", "sites:variant:rate"),
    ("fc:bernouli:0.5", "'bernouli' 'bernoulli'"),
    ("fc:bernoulli:1.5", "1.5 [0, 1]"),
    ("fc:bernoulli:nan", "nan [0, 1]"),
    ("fc:bernoulli:half", "'half' number"),
    ("fc:bernoulli(size=3):0.5", "'size' unit"),
    ("fc:bernoulli(unit=open('x')):0.5", "option=value"),
    ("fc:bernoulli:0.5@early(until=2)", "until=2 [0, 1]"),
    ("(" * 500, "sites:variant:rate"),
    ("fcc:bernoulli:0.5", "'fcc' 'fc'"),
    ("fc:bernoulli:0.5 f*:bernoulli:0.1", "wins"),
    ("pool1/window:bernoulli:0.5", "'pool1/window' activation"),
    ("conv*:bernoulli:0.1,0.2,0.3", "3 2 conv1, conv2"),
]


def arrays(**changes):
    """The arrays of a small data set, some of them changed."""
    random = np.random.default_rng(0)
    found = {
        "train_images": random.integers(0, 255, (24, 10, 10, 1)).astype(np.uint8),
        "train_labels": np.arange(24) % 3,
        "test_images": random.integers(0, 255, (6, 10, 10, 1)).astype(np.uint8),
        "test_labels": np.arange(6) % 3,
    }
    found |= changes
    return {name: value for name, value in found.items() if value is not None}


def holes(count, *indices):
    images = np.ones((count, 10, 10, 1), np.float32)
    images[list(indices)] = np.nan
    return images


ZEROS = np.zeros(24, int)
DATA_SETS = [
    (dict(test_labels=None), "test_labels train_images"),
    (dict(train_images=np.ones((24, 10, 10, 1), int)), "int64 uint8 float"),
    (dict(train_images=np.ones((24, 10, 10, 1), complex)), "complex128 uint8"),
    (dict(train_images=np.ones((24, 10, 10))), "(24, 10, 10) height, width"),
    (dict(train_images=np.ones((24, 10, 0, 1))), "(24, 10, 0, 1) height, width"),
    (dict(train_images=np.full((24, 10, 10, 1), None)), "train_images"),
    (dict(train_labels=np.ones(24)), "float64 integers"),
    (dict(train_labels=np.ones((24, 3), int)), "(24, 3) integers"),
    (dict(train_labels=np.ones(23, int)), "24 23"),
    (dict(train_labels=ZEROS[:0], train_images=np.ones((0, 10, 10, 1))), "0 one"),
    (dict(train_labels=ZEROS, test_labels=ZEROS[:6]), "one class"),
    (dict(train_labels=ZEROS - 1), "-1 0"),
    (dict(train_labels=ZEROS + 10**9), "1000000000 1000000"),
    (dict(test_labels=np.arange(6)), "5 0 to 2"),
    (dict(test_images=np.ones((6, 12, 10, 1), np.uint8)), "(12, 10, 1) (10, 10, 1)"),
    (dict(test_images=holes(6, 4)), "test_images [4] finite"),
    (dict(train_images=holes(24, *range(24))), "train_images finite"),
    (dict(train_images=np.full((24, 10, 10, 1), 1e300)), "train_images finite"),
    (dict(train_images=np.ones((24, 2, 2, 1)), test_images=np.ones((6, 2, 2, 1))), "2"),
]
FILES = [
    ("missing.npz", None, "missing.npz train_images"),
    ("text.npz", b"not an archive", "text.npz train_images"),
    ("empty.npz", b"", "empty.npz train_images"),
    ("pickle.npz", b"\x80\x04K\x01.", "pickle.npz train_images"),
]


@pytest.fixture
def files(tmp_path):
    """Files that arguments name."""
    (tmp_path / "file").write_text("precious")
    (tmp_path / "typo").write_text("--epoch=3\n")
    write_stripes(tmp_path / "data.npz")
    names = {name: tmp_path / name for name in ("file", "typo")}
    return {"data": tmp_path / "data.npz", "directory": tmp_path, **names}


@pytest.fixture(autouse=True)
def settings():
    """Puts back what a start changes in JAX."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def complaint(arguments, capsys, directory):
    """What `train.py` says when it ends with an error."""
    given = {argument.partition("=")[0] for argument in arguments}
    for name in ("workdir", "cache_dir"):
        if f"--{name}" not in given:
            arguments = [*arguments, f"--{name}={directory / name}"]
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
        try:
            rest = flags.FLAGS(["train.py", *arguments])
        except flags.Error as error:  # As app.run says it.
            sys.exit(f"FATAL Flags parsing error: {error}")
        with_errors_in_one_line(train.main, rest)
    assert isinstance(ended.value.code, str)
    return ended.value.code


def assert_names(said, words, directory):
    assert len(said.splitlines()) == 1, said
    for word in words.format(file=directory / "file").split(" "):
        assert word in said, (word, said)


def contents(directory):
    return {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("arguments", "words"), FLAGS, ids=str)
def test_flags(arguments, words, files, capsys):
    before = contents(files["directory"])
    split = arguments.format(**files).split(" --")
    split = [split[0], *(f"--{rest}" for rest in split[1:])]
    said = complaint(split, capsys, files["directory"])
    assert_names(said, words, files["directory"])
    assert before.items() <= contents(files["directory"]).items()


@pytest.mark.parametrize(("plan", "words"), PLANS, ids=lambda text: text[:40])
def test_plans(plan, words, files, capsys):
    split = [DATA.format(**files), f"--dropout={plan}"]
    said = complaint(split, capsys, files["directory"])
    assert_names(said, words, files["directory"])


@pytest.mark.parametrize(
    ("changes", "words"), DATA_SETS, ids=lambda item: str(item)[:40]
)
def test_data_sets(changes, words, tmp_path, capsys):
    np.savez(tmp_path / "mine.npz", **arrays(**changes))
    split = [f"--dataset={tmp_path / 'mine.npz'}", "--batch_size=4"]
    assert_names(complaint(split, capsys, tmp_path), words, tmp_path)


@pytest.mark.parametrize(("name", "content", "words"), FILES)
def test_files(name, content, words, tmp_path, capsys):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    said = complaint([f"--dataset={tmp_path / name}"], capsys, tmp_path)
    assert_names(said, words, tmp_path)


def test_a_truncated_file(files, capsys):
    data = files["data"].read_bytes()
    files["data"].write_bytes(data[: len(data) // 2])
    said = complaint([DATA.format(**files)], capsys, files["directory"])
    assert_names(said, "data.npz train_images", files["directory"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset=nowhere"], "'nowhere' data_dir digits"),
        (["--dataset=mnist", "--data_dir={directory}/none"], "data_dir none directory"),
        (["--dataset=mnist", "--data_dir={directory}"], "'mnist' data_dir prepared"),
        (["--dataset=tiny", "--data_dir={directory}/bad"], "cannot read array_record"),
    ],
)
def test_data_directories(arguments, words, files, capsys):
    version = files["directory"] / "bad" / "tiny" / "1.0.0"
    version.mkdir(parents=True)
    (version / "dataset_info.json").write_text("{")
    split = [argument.format(**files) for argument in arguments]
    said = complaint(split, capsys, files["directory"])
    assert_names(said, words, files["directory"])


def truncated(folder):
    file = folder / "tiny-train.array_record-00000-of-00001"
    file.write_bytes(file.read_bytes()[:1000])


def flipped(folder):
    file = folder / "tiny-train.array_record-00000-of-00001"
    content = np.frombuffer(file.read_bytes(), np.uint8).copy()
    used = np.flatnonzero(content)
    middle = used[len(used) // 2]
    content[middle : middle + 40] ^= 255
    file.write_bytes(content.tobytes())


def records(record):
    """A spoiler that puts `record` in the middle of the training records."""

    def spoil(folder):
        whole = [example(image, 0) for image in pixels(30, (4, 5, 3))]
        write_records(folder, "tiny", "train", [*whole[:9], record, *whole[10:]])

    return spoil


PIXELS = pixels(1, (4, 5, 3))[0]


@pytest.mark.parametrize(
    "spoil",
    [
        truncated,
        flipped,
        records(b"no example"),
        records(b""),
        records(record_of(b"no image", 0)),
        records(example(PIXELS[:3], 0)),
        records(example(PIXELS, 7)),
        records(example(PIXELS, -1)),
    ],
    ids=[
        "truncated", "flipped", "no example", "empty", "no image", "3 rows",
        "label 7", "label -1",
    ],
)  # fmt: skip
def test_corrupted_records(spoil, tmp_path, capsys):
    spoil(prepare(tmp_path / "data"))
    split = ["--dataset=tiny", f"--data_dir={tmp_path / 'data'}"]
    said = complaint(split, capsys, tmp_path)
    assert len(said.splitlines()) == 1 and "cannot" in said and "expected" in said
    # The library that decodes names its own when it cannot read a file at all.
    assert "labels 0 to 6" in said or "array_record" in said
    assert not list((tmp_path / "cache_dir").glob("*.npz"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("run.flags", "--brightness=3\n", "run.flags --brightness version"),
        ("run.flags", "--epochs=many\n", "run.flags --epochs=many"),
        ("run.flags", b"\xff\xfe\x00", "run.flags Expected"),
        ("run.flags", "--seed=7\n", "different --seed"),
        ("summary.json", '{"steps": ', "summary.json damaged JSON"),
    ],
)
def test_damaged_records(name, content, words, files, capsys):
    workdir = files["directory"] / "workdir"
    workdir.mkdir()
    data = content if isinstance(content, bytes) else content.encode()
    (workdir / name).write_bytes(data)
    (workdir / "metrics.jsonl").write_text("{}\n")
    before = contents(workdir)
    said = complaint([DATA.format(**files)], capsys, files["directory"])
    assert_names(said, words, files["directory"])
    assert before.items() <= contents(workdir).items()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            dict(
                train_images=np.ones((24, 10, 14, 1)),
                test_images=np.ones((6, 10, 14, 1)),
            ),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            dict(
                train_images=np.ones((24, 10, 10, 7)),
                test_images=np.ones((6, 10, 10, 7)),
            ),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            dict(
                train_images=np.ones((2, 10, 10, 1)),
                train_labels=np.array([0, 1]),
                test_labels=np.arange(6) % 2,
            ),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["not square", "seven channels", "an example of each class"],
)
def test_unusual_data_sets_that_work(changes, tmp_path, capsys):
    np.savez(tmp_path / "mine.npz", **arrays(**changes))
    split = [
        f"--dataset={tmp_path / 'mine.npz'}", "--batch_size=1", "--epochs=0",
        "--steps=2", "--model=cnn(widths=(2, 2), dense=4)", "--mesh=",
        f"--workdir={tmp_path / 'run'}", f"--cache_dir={tmp_path / 'cache'}",
    ]  # fmt: skip
    with flagsaver.flagsaver():
        train.main(flags.FLAGS(["train.py", *split])[1:])
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--epoch=3"],
        ["--dataset=none.npz"],
        pytest.param(["--epochs=-1"], marks=pytest.mark.slow),
        pytest.param(["--flagfile=none.flags"], marks=pytest.mark.slow),
        pytest.param(["--dropout=fc:bernoulli:nan"], marks=pytest.mark.slow),
    ],
)
def test_the_program_itself_ends_with_one_line(arguments, tmp_path):
    elsewhere = [f"--workdir={tmp_path / 'run'}", f"--cache_dir={tmp_path / 'cache'}"]
    command = [sys.executable, str(ROOT / "train.py"), *arguments, *elsewhere]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    said = [line for line in done.stderr.splitlines() if line and "--help" not in line]
    assert done.returncode != 0 and len(said) == 1, done.stderr
    assert done.stdout == "" and not (tmp_path / "run").exists()


def test_there_are_at_least_sixty():
    assert len(FLAGS) + len(PLANS) + len(DATA_SETS) + len(FILES) >= 60
    assert app.run
