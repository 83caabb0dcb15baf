"""A configuration with other values, whose comments and order stay."""

from collections.abc import Mapping

import yaml


def edited(text: str, lines: Mapping[tuple[str, ...], str]) -> str:
    """`text`, which is YAML, with the entries at these paths replaced, keys and values, to the ends of their lines.

    A replacement is a line or several, which are indented as the key was. Raises KeyError where there is no such entry.
    """
    top = yaml.compose(text, Loader=yaml.SafeLoader)
    assert top is not None
    places = sorted(((*_place(top, path, text), new) for path, new in lines.items()), reverse=True)
    for start, end, indent, new in places:
        text = text[:start] + new.replace("\n", "\n" + " " * indent) + text[end:]
    return text


def _place(node: yaml.Node, path: tuple[str, ...], text: str) -> tuple[int, int, int]:
    """Where the entry at `path` begins, where its last line ends, and the column of its key."""
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if key.value == path[0]:
            if path[1:]:
                return _place(value, path[1:], text)
            last = len(text[: _last(value).end_mark.index].rstrip())
            end = text.find("\n", last)
            return key.start_mark.index, len(text) if end < 0 else end, key.start_mark.column
    raise KeyError(path[0])


def _last(node: yaml.Node) -> yaml.Node:
    """The last part of a value: the mark behind a block is where the next entry begins, comments in between or not."""
    if not isinstance(node, yaml.CollectionNode) or node.flow_style or not node.value:
        return node
    last = node.value[-1]
    return _last(last[1] if isinstance(node, yaml.MappingNode) else last)
