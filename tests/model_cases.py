"""The smallest instance of every model."""

TINY = (
    "all_conv(widths=(4, 6))", "char_rnn", "cnn(widths=(3, 4), dense=5)",
    "cnn_same(widths=(3, 4), dense=5)", "gru(units=5)", "lenet", "lstm(units=5)",
    "mlp(widths=(6, 5))", "plain(depth=3, width=3)", "resnet(depth=8, width=4)",
    "resnet_imagenet(depth=14, width=4)", "shake_shake(depth=8, width=4)",
    "vgg(depth=11, width=4, dense=5)", "vit(patch=4, width=8, depth=1, heads=2)",
    "vit_small(patch=4, depth=1)",
    "vit_tiny(patch=4, depth=1)",
    "wrn(depth=10, width=1)",
)  # fmt: skip
