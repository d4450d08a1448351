"""Recipes: a YAML file holds a command's arguments, and `key=value` on the line says one of them otherwise."""

import difflib
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

UNLOOKED = ("resume", "show", "list", "verify")  # commands whose options are all that can be looked at elsewhere


class Command(TyperCommand):
    """A command that takes its defaults from `--recipe FILE` and from `key=value`; options come before both.

    It must have a parameter `recipe` for its help; the value never arrives there.
    """

    def make_context(self, info_name, args, parent=None, **extra):
        names = {p.name for p in self.params if p.name} - {"recipe", "help"}
        given, rest, recipe = {}, [], None
        words = iter(args)
        for word in words:
            key, equals, value = word.partition("=")
            if word == "--recipe" or key == "--recipe":
                recipe = value if equals else next(words, None)
            elif equals and key.isidentifier():
                given[_known(key, names)] = value
            else:
                rest.append(word)
        held = {_known(k, names): v for k, v in _read(recipe).items()} if recipe else {}
        defaults = {key: self._taken(key, value) for key, value in (held | given).items()}
        return super().make_context(info_name, rest, parent, default_map=defaults, **extra)

    def invoke(self, ctx):
        from ..platform.runs import dry_run

        if self.name in UNLOOKED:
            dry_run.ends()
        return super().invoke(ctx)

    def _taken(self, key: str, value: Any) -> Any:
        """As the command line would have said it: text, or a list of texts."""
        param = next(p for p in self.params if p.name == key)
        if param.nargs == -1 or getattr(param, "multiple", False):
            return [str(v) for v in value] if isinstance(value, list | tuple) else [str(value)]
        if isinstance(value, list | tuple):
            return ",".join(map(str, value)) + ","
        return value if value is None or isinstance(value, bool) else str(value)


def _read(path: str) -> dict[str, Any]:
    from ..platform.storage.yaml_file import read_yaml

    try:
        held = read_yaml(Path(path), f"the recipe {path}")
    except (ValueError, FileNotFoundError) as e:
        raise typer.BadParameter(str(e)) from None
    if not isinstance(held, dict):
        raise typer.BadParameter(f"expected the recipe {path} to hold lines as 'seeds: 5', got {type(held).__name__}")
    return {"on" if key is True else key: value for key, value in held.items()}  # to YAML 1.1 the key `on` is a yes


def _known(key: Any, names: set[str]) -> str:
    name = str(key).replace("-", "_")
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, 1)
    hint = f", did you mean {near[0]!r}?" if near else ""
    raise typer.BadParameter(f"no argument {key!r}{hint}; known: {', '.join(sorted(names))}")
