"""Names of arrays, which are texts in training whatever the modules call them."""

from typing import Any

Tree = dict[str, Any]


def named(tree: dict) -> Tree:
    """Return a tree with texts as names: those of the items of a list are numbers."""
    return {
        str(name): named(item) if isinstance(item, dict) else item
        for name, item in tree.items()
    }


def numbered(tree: Tree, like: dict) -> dict:
    """Return a tree with the names that `like` has, of which `named` made texts."""
    return {
        name: numbered(tree[str(name)], item)
        if isinstance(item, dict)
        else tree[str(name)]
        for name, item in like.items()
    }
