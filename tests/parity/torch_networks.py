"""The networks in PyTorch, torchvision, timm and Keras, with the arrays of ours.

Each takes `w`, tensors by the paths of our parameters and statistics, images with
channels first, and whether it trains; statistics are changed in place.
"""

from functools import partial

import jax
import numpy as np

from parity.made import normal, projected
from parity.networks import CLASSES, IMAGES, ROWS, arrays_of, images_of
from parity.peers import peer

torch = peer("torch")
torchvision = peer("torchvision")
timm_transformer = peer("timm.models.vision_transformer")
keras = peer("keras")
relu, pool = torch.relu, torch.nn.functional.max_pool2d


def conv(w, name, x, stride=1, padding=None):
    """A convolution, by default padded by half of its kernel."""
    kernel = w[f"{name}/kernel"].permute(3, 2, 0, 1)
    bias = w[f"{name}/bias"] if f"{name}/bias" in w else None
    border = kernel.shape[-1] // 2 if padding is None else padding
    return torch.nn.functional.conv2d(x, kernel, bias, stride, border)


def dense(w, name, x):
    return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]


def flatten(x):
    return x.permute(0, 2, 3, 1).flatten(1)


def norm(w, name, x, train):
    values = (w[f"{name}/{kind}"] for kind in ("mean", "var", "scale", "bias"))
    return batch_norm(x, *values, train)


def batch_norm(x, mean, var, scale, bias, train):
    """PyTorch's, but for the running variance: its own is unbiased, and ours is not."""
    mean_after, var_after = mean.clone(), var.clone()
    y = torch.nn.functional.batch_norm(
        x, mean_after, var_after, scale, bias, train, 0.1, 1e-5
    )
    count = x.numel() / x.shape[1]
    if train:
        mean.copy_(mean_after)
        var.copy_(0.9 * var + (var_after - 0.9 * var) * (count - 1) / count)
    return y


class BiasedNorm(torch.nn.BatchNorm2d):
    def forward(self, x):
        return batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias,
            self.training,
        )  # fmt: skip


def unit(w, name, x, train, stride=1):
    return norm(w, f"{name}/norm", conv(w, name, x, stride), train)


def all_conv(w, x, train):
    layers = [(1, 1), (1, 1), (2, 1), (1, 1), (1, 1), (2, 1), (1, 0), (1, 0)]
    for number, (stride, padding) in enumerate(layers, 1):
        x = relu(conv(w, f"conv{number}", x, stride, padding))
    return relu(conv(w, "out", x)).mean((2, 3))


def cnn_same(w, x, train):
    for name in ("conv1", "conv2"):
        x = pool(relu(conv(w, name, x)), 2)
    return dense(w, "out", relu(dense(w, "fc", flatten(x))))


def lenet(w, x, train):
    for name in ("conv1", "conv2"):
        x = pool(conv(w, name, x, 1, 0), 2)
    return dense(w, "out", relu(dense(w, "fc", flatten(x))))


def plain(w, x, train):
    x = pool(relu(conv(w, "conv1", x)), 2)
    x = pool(relu(conv(w, "conv2", x)), 2)
    return dense(w, "out", relu(conv(w, "conv3", x)).mean((2, 3)))


def vgg(w, x, train):
    for number in range(1, 9):
        x = relu(unit(w, f"conv{number}", x, train))
        if number in (1, 2, 4, 6, 8):
            x = pool(x, 2, ceil_mode=True)
    x = relu(norm(w, "fc_norm/norm", dense(w, "fc", flatten(x)), train))
    return dense(w, "out", x)


def resnet(w, x, train):
    """He et al. 2016 with shortcuts of option A."""
    x = relu(unit(w, "conv1", x, train))
    for name, stride in (("block1", 1), ("block2", 2), ("block3", 2)):
        y = relu(unit(w, f"{name}/conv1", x, train, stride))
        y = unit(w, f"{name}/conv2", y, train)
        x = x[:, :, ::stride, ::stride]
        x = torch.cat(
            [x, x.new_zeros(len(x), y.shape[1] - x.shape[1], *x.shape[2:])], 1
        )
        x = relu(x + y)
    return dense(w, "out", x.mean((2, 3)))


def wrn(w, x, train):
    """Zagoruyko & Komodakis 2016; a projection reads the activation."""
    x = conv(w, "conv1", x)
    for name, stride in (("block1", 1), ("block2", 2), ("block3", 2)):
        active = relu(norm(w, f"{name}/act1/norm", x, train))
        y = conv(w, f"{name}/conv1", active, stride)
        y = relu(norm(w, f"{name}/act2/norm", y, train))
        if f"{name}/shortcut/kernel" in w:
            x = conv(w, f"{name}/shortcut", active, stride)
        x = x + conv(w, f"{name}/conv2", y)
    return dense(w, "out", relu(norm(w, "act/norm", x, train)).mean((2, 3)))


def shake_shake(w, x, train):
    """Gastaldi 2017 with equal shares."""
    x = unit(w, "conv1", x, train)
    for name, stride in (("block1", 1), ("block2", 2), ("block3", 2)):
        paths = [f"{name}/path{number}" for number in (1, 2)]
        active = relu(x)
        inner = [relu(unit(w, f"{p}/conv1", active, train, stride)) for p in paths]
        ends = [unit(w, f"{p}/conv2", y, train) for p, y in zip(paths, inner)]
        if f"{name}/shortcut/conv1/kernel" in w:
            shifted = torch.nn.functional.pad(active, (1, -1, 1, -1))
            first = conv(w, f"{name}/shortcut/conv1", active, stride)
            second = conv(w, f"{name}/shortcut/conv2", shifted, stride)
            x = norm(w, f"{name}/shortcut/norm", torch.cat([first, second], 1), train)
        x = x + sum(ends) / 2
    return dense(w, "out", relu(x).mean((2, 3)))


def recurrent(w, name, kind, x):
    """A layer of PyTorch's cells; ours of `lstm` has one bias, and the second is 0."""
    kernel, bias = w[f"{name}/kernel"], w[f"{name}/bias"]
    second = f"{name}/recurrent/bias"
    units = w[f"{name}/recurrent/kernel"].shape[0]
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](
        len(kernel), units, batch_first=True
    )
    given = {
        "weight_ih_l0": kernel.T, "bias_ih_l0": bias,
        "weight_hh_l0": w[f"{name}/recurrent/kernel"].T,
        "bias_hh_l0": w[second] if second in w else torch.zeros_like(bias),
    }  # fmt: skip
    return torch.func.functional_call(layer.double(), given, x)[0]


def rows(x):
    return x.permute(0, 2, 3, 1).flatten(2)


def row_rnn(kind, w, x, train):
    return dense(w, "out", recurrent(w, kind, kind, rows(x))[:, -1])


def char_rnn(w, x, train):
    x = rows(x) @ w["embedding/kernel"]
    for name in ("gru1", "gru2"):
        x = recurrent(w, name, "gru", x)
    return dense(w, "out", x)


def imagenet(block, w, x, train):
    """The network of torchvision; there are as many blocks as stages."""
    network = torchvision.models.resnet.ResNet(
        block, [1, 1, 1, 1], num_classes=CLASSES, norm_layer=BiasedNorm
    )
    given = {
        "fc.weight": w["out/kernel"].T, "fc.bias": w["out/bias"],
        **torch_unit(w, "conv1", "conv1", "bn1"),
    }  # fmt: skip
    for number in range(1, 5):
        ours, theirs = f"block{number}", f"layer{number}.0"
        for conv in ("1", "2", "3"):
            if f"{ours}/conv{conv}/kernel" in w:
                names = f"{theirs}.conv{conv}", f"{theirs}.bn{conv}"
                given |= torch_unit(w, f"{ours}/conv{conv}", *names)
        if f"{ours}/shortcut/kernel" in w:
            names = f"{theirs}.downsample.0", f"{theirs}.downsample.1"
            given |= torch_unit(w, f"{ours}/shortcut", *names)
    network.double().train(train)
    assert set(dict(network.named_parameters())) <= set(given)
    return torch.func.functional_call(network, given, x)


def torch_unit(w, ours, conv, norm):
    """A convolution and its norm under the names that a module of PyTorch has."""
    return {
        f"{conv}.weight": w[f"{ours}/kernel"].permute(3, 2, 0, 1),
        f"{norm}.weight": w[f"{ours}/norm/scale"],
        f"{norm}.bias": w[f"{ours}/norm/bias"],
        f"{norm}.running_mean": w[f"{ours}/norm/mean"],
        f"{norm}.running_var": w[f"{ours}/norm/var"],
    }


def vit(patch, heads, w, x, train):
    """The transformer of timm without a class token, the mean after its norm."""
    width, depth = w["norm/scale"].shape[0], sum("qkv/kernel" in path for path in w)
    network = timm_transformer.VisionTransformer(
        img_size=tuple(x.shape[2:]), patch_size=patch, in_chans=x.shape[1],
        num_classes=CLASSES, global_pool="avg", class_token=False, fc_norm=False,
        embed_dim=width, depth=depth, num_heads=heads, act_layer="gelu_tanh",
    )  # fmt: skip
    patches = w["patches/kernel"].T.reshape(width, patch, patch, x.shape[1])
    given = {
        "pos_embed": w["positions"],
        "patch_embed.proj.weight": patches.permute(0, 3, 1, 2),
        "patch_embed.proj.bias": w["patches/bias"],
        **torch_norm(w, "norm", "norm"), **torch_dense(w, "out", "head"),
    }  # fmt: skip
    for number in range(depth):
        ours, theirs = f"block{number + 1}", f"blocks.{number}"
        for name in ("norm1", "norm2"):
            given |= torch_norm(w, f"{ours}/{name}", f"{theirs}.{name}")
        for one, other in {
            "attention/qkv": "attn.qkv", "attention/out": "attn.proj",
            "mlp/hidden": "mlp.fc1", "mlp/out": "mlp.fc2",
        }.items():  # fmt: skip
            given |= torch_dense(w, f"{ours}/{one}", f"{theirs}.{other}")
    assert set(dict(network.named_parameters())) == set(given)
    return torch.func.functional_call(network.double().train(train), given, x)


def torch_dense(w, ours, theirs):
    return {
        f"{theirs}.weight": w[f"{ours}/kernel"].T,
        f"{theirs}.bias": w[f"{ours}/bias"],
    }


def torch_norm(w, ours, theirs):
    return {
        f"{theirs}.weight": w[f"{ours}/scale"],
        f"{theirs}.bias": w[f"{ours}/bias"],
    }


BASIC, BOTTLENECK = (
    torchvision.models.resnet.BasicBlock,
    torchvision.models.resnet.Bottleneck,
)
NETWORKS = {
    "all_conv(widths=(4, 6))": all_conv,
    "char_rnn(cell='gru', embedding=5, units=6, layers=2)": char_rnn,
    "cnn_same(widths=(3, 4), dense=5)": cnn_same,
    "gru(units=5)": partial(row_rnn, "gru"),
    "lenet": lenet,
    "lstm(units=5)": partial(row_rnn, "lstm"),
    "plain(depth=3, width=3)": plain,
    "resnet(depth=8, width=4)": resnet,
    "resnet_imagenet(depth=10)": partial(imagenet, BASIC),
    "resnet_imagenet(depth=14)": partial(imagenet, BOTTLENECK),
    "shake_shake(depth=8, width=4)": shake_shake,
    "vgg(depth=11, width=4, dense=5)": vgg,
    "vit(patch=4, width=8, depth=2, heads=2)": partial(vit, 4, 2),
    "vit_small(patch=4, depth=1)": partial(vit, 4, 6),
    "vit_tiny(patch=4, depth=1)": partial(vit, 4, 3),
    "wrn(depth=10, width=1)": wrn,
}


def keras_cnn():
    layers = keras.layers
    return [
        layers.Conv2D(3, 3, activation="relu"), layers.MaxPooling2D(),
        layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(),
        layers.Flatten(), layers.Dense(5, activation="relu"), layers.Dense(CLASSES),
    ]  # fmt: skip


def keras_mlp():
    layers = keras.layers
    return [
        layers.Flatten(), layers.Dense(6, activation="relu"),
        layers.Dense(5, activation="relu"), layers.Dense(CLASSES),
    ]  # fmt: skip


# With the names of our layers in the order of theirs.
KERAS = {
    "cnn(widths=(3, 4), dense=5)": (keras_cnn, ("conv1", "conv2", "fc", "out")),
    "mlp(widths=(6, 5))": (keras_mlp, ("fc1", "fc2", "out")),
}


def in_keras(text):
    """Keras computes the logits alone."""
    make, names = KERAS[text]
    network = keras.Sequential([keras.Input(IMAGES[text]), *make()])
    params, _ = arrays_of(text)
    network.set_weights([params[f"{n}/{p}"] for n in names for p in ("kernel", "bias")])
    # Keras adds biases of a lower rank, which the tests forbid our own code to do.
    with jax.numpy_rank_promotion("allow"):
        return {"eval/logits": np.asarray(network(images_of(text)), np.float32)}


def in_torch(text):
    """Logits in each mode; gradients and statistics as they are in training."""
    if not arrays_of(text)[1]:
        found = {f"eval/{n}": v for n, v in torch_results(text, False).items()}
    else:
        found = {f"train/{n}": v for n, v in torch_results(text, True).items()}
        found["eval/logits"] = torch_results(text, False)["logits"]
    return {name: np.float32(value) for name, value in found.items()}


def torch_results(text, train):
    given = [
        {p: torch.tensor(a).double() for p, a in t.items()} for t in arrays_of(text)
    ]
    params, stats = given
    params["images"] = torch.tensor(images_of(text)).double()
    for leaf in params.values():
        leaf.requires_grad_()
    x = params["images"].permute(0, 3, 1, 2)
    logits = NETWORKS[text]({**params, **stats}, x, train)
    (logits * torch.tensor(normal("cotangent", logits.shape))).sum().backward()
    gradients = {path: leaf.grad.numpy() for path, leaf in params.items()}
    after = {path: leaf.numpy() for path, leaf in stats.items()}
    assert len(logits) == ROWS
    return {
        "logits": logits.detach().numpy(),
        "gradients": projected(gradients),
        "lengths": [np.linalg.norm(gradients[path]) for path in sorted(gradients)],
        "statistics": projected(after),
    }


def results(text):
    """What another library computes for one of `IMAGES`."""
    return in_keras(text) if text in KERAS else in_torch(text)
