"""Files of a run or a sweep that somebody else may have written: read as plain values, and never obeyed beyond them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Override
from omegaconf._utils import get_yaml_loader

from vae_lightning import override
from vae_lightning.errors import ConfigError, UserError, first_line

LARGEST = 16 * 2**20  # bytes of a YAML file: a sweep of ten thousand jobs has one of some kilobytes
DEEPEST = 50  # nodes in each other
RESOLVER = re.compile(r"\$\{[^{}]*:")  # ${oc.env:…} and its like are calls; ${loss.beta} only names another value
DROPPED = ("data.source.mirror",)  # what was downloaded is there, and else the usual mirrors serve it
OURS = re.compile(
    r"figures|generated|export|projector.*|search|report|(results|evaluate|status|search)\.json|metrics\.csv|events\..*"
    r"|.*\.log|\..*\.tmp"
)  # what commands write into a folder, beside .hydra and checkpoints
PLUGIN = re.compile(r"hydra/(launcher|sweeper)")
HARMLESS = re.compile(  # of the launchers and sweepers: numbers and names, no commands, paths, addresses or code
    r"hydra\.launcher\.(n_jobs|backend|verbose|timeout_min|cpus_per_task|gpus_per_node|tasks_per_node|mem_gb|nodes|name"
    r"|stderr_to_stdout|partition|qos|constraint|gres|account|array_parallelism|cpus_per_gpu|gpus_per_task|mem_per_gpu"
    r"|mem_per_cpu|max_num_timeout|signal_delay_s|exclude|comment)"
    r"|hydra\.sweeper\.(n_trials|n_jobs|sampler|sampler_seed|startup_trials|pruner|warmup_epochs|keep|study_name)"
)


def read_yaml(path: Path) -> Any:
    """The plain values in a YAML file. No tags, so that no code is run; no aliases, of which few bytes make gigabytes.

    Interpolations stay as they are written.

    Raises:
        UserError: it is no such file; says why.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"{path.stat().st_size:,} bytes are too many")
        return yaml.load(path.read_text(encoding="utf-8"), _loader())  # a SafeLoader
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path}: damaged, or not written by vae_lightning ({first_line(error)})") from error


@cache
def _loader() -> Any:
    """OmegaConf's own, which knows 1e-4 as a number and builds no objects, with less in it."""

    class Plain(get_yaml_loader()):  # type: ignore[misc]
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise ValueError("it has aliases")
            self.depth += 1
            if self.depth > DEEPEST:
                raise ValueError("it is nested too deeply")
            node = super().compose_node(parent, index)
            self.depth -= 1
            if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
                raise ValueError(f"it asks for {node.tag}")
            return node

    return Plain


def read_overrides(path: Path, said: Sequence[str | None]) -> list[str]:
    """The overrides that a run was started with, as far as they may be taken from a file; none where there is none.

    Args:
        path: `.hydra/overrides.yaml`.
        said: the keys that the user names now; what the file says of them is of no matter.

    Raises:
        ConfigError: one of them could run code or reach elsewhere: the user may say it, a file may not.
    """
    if not path.is_file():
        return []
    found = [(text, parsed(text, path)) for text in texts(read_yaml(path), path) if not text.startswith("-")]
    kept = [(text, o) for text, o in found if o.key_or_group not in said and not o.is_hydra_override()]
    return [text for text, override in kept if allowed(text, override, path)]


def texts(values: Any, path: Path) -> list[str]:
    """A list of texts.

    Raises:
        UserError: it is something else.
    """
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UserError(f"{path}: damaged, or not written by vae_lightning: a list of overrides was expected")
    return values


def parsed(text: str, path: Path) -> Override:
    """An override.

    Raises:
        UserError: it is none.
    """
    try:
        return override.parsed(text)
    except ConfigError as error:
        raise UserError(f"{path}: {text!r} is no override") from error


def allowed(text: str, override: Override, path: Path) -> bool:
    """Whether this override of a training is taken from a file; some are of no matter any more.

    Raises:
        ConfigError: it must not be.
    """
    if override.key_or_group in DROPPED:
        return False
    if "_target_" in text or RESOLVER.search(text) or override.package is not None or not text.isprintable():
        raise refused(text, path, "could run code, or read what is not its business")
    if override.key_or_group == "data.root" and not Path(str(override.value())).expanduser().is_dir():
        raise refused(text, path, "names a folder that is not here")
    return True


def allowed_of_hydra(text: str, override: Override, path: Path) -> str:
    """The same text, if it chooses a launcher or a sweeper, or sets a number or a name of theirs.

    Raises:
        ConfigError: it does something else.
    """
    value = override.value()
    plain = value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and value.isprintable())
    word = isinstance(value, str) and value.isidentifier()
    if "$" in text or not ((PLUGIN.fullmatch(override.key_or_group) and word) or (harmless(override) and plain)):
        raise refused(text, path, "could run code, or reach elsewhere")
    return text


def harmless(override: Override) -> bool:
    return HARMLESS.fullmatch(override.key_or_group) is not None and not override.is_delete()


def refused(text: str, path: Path, why: str) -> ConfigError:
    """The error for an override that no file may bring."""
    return ConfigError(f"{path}: {text!r} {why}: that is not taken from a file. If you mean it, say it once more")


def inside(folder: Path) -> Path:
    """The same folder, if all that commands write or show of it lies in it.

    Raises:
        UserError: a link leads out of it: what is written there, or shown from there, would be somewhere else.
    """
    for link, target in leaving(folder):
        raise UserError(
            f"{link}: a link that leads to {target}, outside of its run folder. Remove it, or put a copy in its place"
        )
    return folder


def leaving(folder: Path) -> Iterator[tuple[Path, Path]]:
    """The links in the folder of a run or a sweep that lead out of it, and where to.

    Of a folder with a checkpoint and who knows what else, as that of all downloads, only what has names of ours.
    """
    root = Path(os.path.realpath(folder))
    whole = any((root / mark).is_dir() for mark in (".hydra", "checkpoints")) or (root / "multirun.yaml").is_file()
    for place, folders, files in os.walk(root):
        if not whole and place == str(root):
            folders[:], files = ([name for name in some if OURS.fullmatch(name)] for some in (folders, files))
        for name in (*folders, *files):
            link = Path(place, name)
            if link.is_symlink() and not (target := Path(os.path.realpath(link))).is_relative_to(root):
                yield folder / link.relative_to(root), target
