"""What a run that goes on is told otherwise than when it began: refused where it matters, unless it is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from vae_lightning.check import plain, read
from vae_lightning.errors import ConfigError

FREE = (  # what comes out does not depend on it, or on no more than rounding
    "accelerator",
    "callback.early_stopping",
    "ckpt",
    "data.eval_batch_size",
    "data.root",
    "data.source.mirror",
    "data.source.path",
    "debug",
    "logger",
    "objective",
    "pictures",
    "resume",
    *(
        f"trainer.{key}"
        for key in (
            *("accelerator", "channels_last", "check_val_every_n_epoch", "compile", "deterministic", "devices"),
            *("enable_progress_bar", "graph", "log_every_n_steps", "max_epochs", "minibatches_per_step"),
            *("num_nodes", "profiler", "strategy"),
        )
    ),
)
NEVER = ("condition", "likelihood", "model", "posterior", "prior", "scheduler")  # weights, or a way, of their own
COUNTED = ("data", "trainer.accumulate_grad_batches")  # by which the position in an epoch is counted


class Change(NamedTuple):
    """Of one key."""

    key: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.key}: {_say(self.before)} then, {_say(self.now)} now"


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Every key that has another value; another option of a group is one change.

    >>> list(map(str, changes({"seed": 0, "loss": {"_target_": "a.elbo.ELBO", "beta": 1.0}, "x": None},
    ...                       {"seed": 0, "loss": {"_target_": "a.iwae.IWAE", "samples": 50}, "x": 2})))
    ['loss: elbo then, iwae now', 'x: null then, 2 now']
    """
    a, b = dict(leaves(before)), dict(leaves(now))
    different = [key for key in {**a, **b} if a.get(key) != b.get(key)]
    options = [key.removesuffix("._target_") for key in different if key.endswith("._target_")]
    found = [Change(o, *(_option(side.get(f"{o}._target_")) for side in (a, b))) for o in options]
    return found + [Change(key, a.get(key), b.get(key)) for key in different if not below(key, options)]


def below(key: str, parts: Sequence[str]) -> bool:
    """Whether `key` is one of these, or lies in one.

    >>> below("loss.beta", ["loss"]), below("losses", ["loss"])
    (True, False)
    """
    return any(key == part or key.startswith(f"{part}.") for part in parts)


def settle(before: Mapping[str, Any], config: DictConfig, midst: bool, path: Any) -> list[Change]:
    """What is told otherwise, and may be.

    Args:
        before: the configuration that the checkpoint was made with.
        config: that of now; its `resume.override` names keys that may differ.
        midst: the run has stopped in the midst of an epoch.
        path: of the checkpoint, for the errors.

    Raises:
        ConfigError: something that matters differs.
    """
    asked = list(config.resume.override or [])
    scheduled = "max_epochs" in read(config.scheduler["_target_"]).facts  # the learning rate gets to its end then
    found = [c for c in changes(before, plain(config)) if not _follows(config, c.key)]
    matter = [c for c in found if not below(c.key, FREE) or (scheduled and c.key == "trainer.max_epochs")]
    never = [c.key for c in matter if below(c.key, NEVER) and ".anneal." not in c.key]
    lines = [f"{c}: belongs to the run; begin another one" for c in matter if c.key in never]
    lines += [
        f"{c}: the run was stopped in the midst of an epoch, which is to be ended as it has begun"
        for c in matter
        if midst and below(c.key, COUNTED) and below(c.key, asked)
    ]
    wanted = [c for c in matter if not below(c.key, [*asked, *never])]
    lines += map(str, wanted)
    if not lines:
        return found
    keys = ",".join(dict.fromkeys([*asked, *(c.key for c in wanted)]))
    hint = f", or say resume.override=[{keys}]" if wanted else ""
    raise ConfigError(
        f"ckpt={path}: what matters to the run is told otherwise than before:\n  "
        + "\n  ".join(lines)
        + f"\nLeave it as it was{hint}"
    )


def _follows(config: DictConfig, key: str) -> bool:
    """Whether the value is that of another key, which tells of it."""
    parent, _, last = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if not isinstance(node, DictConfig) or last not in node or not OmegaConf.is_interpolation(node, last):
        return False
    link = re.fullmatch(r"\$\{(?:oc\.select:)?([\w.]+)(?:,\w+)?\}", str(node._get_node(last)))
    return link is not None and not below(link[1], FREE)


def leaves(node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with a value, dotted."""
    for key, value in node.items():
        name = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping):
            yield from leaves(value, name)
        else:
            yield name, value


def _option(target: str | None) -> str | None:
    """The name of an option: that of a function, or of the module of a class."""
    *_, module, name = ["", *(target or "").split(".")]
    return None if target is None else module.rpartition(".")[2] if name[:1].isupper() else name


def _say(value: Any) -> str:
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))
