"""Networks of torchvision and timm with weights that are functions of their names."""

from functools import partial

import numpy as np

from parity.made import normal
from parity.peers import peer
from parity.weight_cases import CLASSES, IMAGES, ROWS, values

torch = peer("torch")
resnets = peer("torchvision.models").resnet
timm_transformer = peer("timm.models.vision_transformer")


MEAN = {"class_token": False, "global_pool": "avg", "fc_norm": False}


def transformer(image, patch, width, depth, heads, activation="gelu", pooling=MEAN):
    return timm_transformer.VisionTransformer(
        img_size=image[:2], in_chans=image[2], patch_size=patch, embed_dim=width,
        depth=depth, num_heads=heads, num_classes=CLASSES, act_layer=activation,
        **pooling,
    )  # fmt: skip


def of_blocks(block, counts, image):
    return resnets.ResNet(block, counts, num_classes=CLASSES)


def by_depth(depth, image):
    return getattr(resnets, f"resnet{depth}")(num_classes=CLASSES)


def by_name(name, image):
    """With a class token, as timm makes the networks whose weights it serves."""
    return peer("timm").create_model(
        name, img_size=image[:2], num_classes=CLASSES, pretrained=False
    )


tiny_tokens = partial(transformer, patch=4, width=8, depth=2, heads=2)

NETWORKS = {
    "resnet_imagenet(depth=10)": partial(of_blocks, resnets.BasicBlock, [1, 1, 1, 1]),
    "vit(patch=4, width=8, depth=2, heads=2, gelu='erf')": tiny_tokens,
    "vit(patch=4, width=8, depth=2, heads=2, gelu='erf', class_token=True)": partial(
        tiny_tokens, pooling={}
    ),
    **{
        f"resnet_imagenet(depth={depth})": partial(by_depth, depth)
        for depth in (18, 34, 50, 101, 152)
    },
    "vit_tiny(patch=16, gelu='erf', class_token=True)": partial(
        by_name, "vit_tiny_patch16_224"
    ),
    "vit_tiny(patch=16, gelu='erf')": partial(
        transformer, patch=16, width=192, depth=12, heads=3
    ),
    "vit_small(patch=16)": partial(
        transformer, patch=16, width=384, depth=12, heads=6, activation="gelu_tanh"
    ),
}


def network(text):
    """The network of a case, with its weights, as it is evaluated."""
    made = NETWORKS[text](IMAGES[text]).eval()
    shapes = {name: tuple(item.shape) for name, item in made.state_dict().items()}
    state = {name: torch.tensor(array) for name, array in values(shapes).items()}
    made.load_state_dict(state)
    return made


def logits(made, text):
    images = torch.tensor(normal("images", (ROWS, *IMAGES[text]))).permute(0, 3, 1, 2)
    with torch.no_grad():
        return made.double()(images.double()).numpy()


def results(text):
    """What is recorded of a case: the names and shapes of its file, and the logits."""
    made = network(text)
    shapes = {name: tuple(item.shape) for name, item in made.state_dict().items()}
    padded = [(*shape, *(-1,) * (4 - len(shape))) for shape in shapes.values()]
    return {
        "names": np.array(list(shapes)),
        "shapes": np.array(padded),
        "logits": np.float32(logits(made, text)),
    }
