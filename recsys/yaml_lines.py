"""A YAML file that knows the line of every setting."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from recsys.errors import ConfigError


class YamlFile:
    """One YAML file with a mapping at its top.

    Args:
        path: The file.

    Raises:
        ConfigError: the file is not YAML, holds no mapping, or writes a key twice in one mapping.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
            self._root = loader.get_single_node()
            if self._root is not None:
                self._refuse_repeated_keys(self._root, set())
            raw = None if self._root is None else loader.construct_document(self._root)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"config {path} is not valid YAML: {' '.join(str(error).split())}") from error
        if not isinstance(raw, dict):
            raise ConfigError(f"config {path} must hold a mapping of keys, and holds {type(raw).__name__}")
        self.raw: dict[str, Any] = raw

    def line(self, path: Sequence[str | int]) -> int:
        """Return the line, from 1, of the setting at a path; for a path that is not there, of its nearest parent."""
        node, line = self._root, 1
        for part in path:
            if isinstance(node, yaml.MappingNode):
                # The last one counts: what a mapping takes over from another by `<<` comes before its own keys.
                found = [(key, value) for key, value in node.value if key.value == str(part)][-1:]
                for key, value in found:
                    node, line = value, key.start_mark.line + 1
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line + 1
        return line

    def _refuse_repeated_keys(self, node: yaml.Node, seen: set[int]) -> None:
        """YAML readers keep the last of two equal keys and drop the other without a word."""
        if id(node) in seen:
            return
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                    if key.value in lines:
                        raise ConfigError(
                            f"{self.path}, line {line}: the key {key.value!r} is written twice, first in line "
                            f"{lines[key.value]}; one of the two would be lost"
                        )
                    lines[key.value] = line
                self._refuse_repeated_keys(value, seen)
        elif isinstance(node, yaml.SequenceNode):
            for value in node.value:
                self._refuse_repeated_keys(value, seen)
