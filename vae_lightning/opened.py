"""Checkpoints are opened: no code in them is run, they take no more memory than they have bytes, and they are whole."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vae_lightning.errors import UserError, first_line
from vae_lightning.schema import NonNegativeInt, allows

SLACK = 2**25  # numbers that a model may be made of beside its weights: masks, tables, what is drawn on the way
CALLS = 10_000  # operations that it may take, and a hundred more for each of its weights


def opened(path: Path) -> Any:
    """What `torch.save` has written into a file, on the CPU: tensors and plain values.

    Raises:
        UserError: it is something else, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
        if packed:  # torch never packs; a few bytes could become gigabytes
            raise ValueError(f"{packed[0]} in it is compressed")
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a stranger's file makes all kinds of them
        raise UserError(f"{path}: damaged, or not a checkpoint") from error


def check(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Whether a checkpoint has the weights and results that this framework reads of it, in the types that it writes.

    Raises:
        UserError: it has not; names the place.
    """
    weights, val = checkpoint.get("state_dict"), checkpoint.get("val", {})
    if not isinstance(weights, dict) or not all(isinstance(k, str) and _plain(v) for k, v in weights.items()):
        raise wrong(path, "state_dict")
    if sum(v.numel() * v.element_size() for v in weights.values()) > path.stat().st_size:
        raise wrong(path, "state_dict, which claims more numbers than there are in the file,")
    if not isinstance(val, dict) or not all(isinstance(k, str) and allows(float, v) for k, v in val.items()):
        raise wrong(path, "val")


def place(checkpoint: Mapping[str, Any], path: Path) -> tuple[int, bool]:
    """How many epochs a run has behind it that is to go on from this checkpoint, and whether it is in the midst of one.

    Raises:
        UserError: it cannot: where it was is not said as this framework says it.
    """
    try:
        current = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        done, started, step = current["processed"], current["started"], checkpoint["global_step"]
        names, rows, sizes = (checkpoint["meter"][name] for name in ("names", "rows", "sizes"))
    except (KeyError, TypeError) as error:
        raise wrong(path, "loops, or meter,") from error
    if not all(allows(NonNegativeInt, n) for n in (done, started, step)):
        raise wrong(path, "loops")
    if not isinstance(checkpoint["vae_lightning"].get("config"), dict):
        raise wrong(path, "vae_lightning")
    made = checkpoint.get("made_with", {})
    if not isinstance(made, dict) or not all(isinstance(text, str) for pair in made.items() for text in pair):
        raise wrong(path, "made_with")
    if not all(isinstance(part, list) for part in (names, rows, sizes)) or len(rows) != len(sizes):
        raise wrong(path, "meter")
    if not all(isinstance(name, str) for name in names) or not all(allows(int, n) and n > 0 for n in sizes):
        raise wrong(path, "meter")
    if not all(_plain(row) and row.shape == (len(names),) for row in rows):
        raise wrong(path, "meter")
    return int(done), started > done


def wrong(path: Path | str, place: str) -> UserError:
    """The error for a checkpoint that is not as it should be."""
    return UserError(f"{path}: {place} is not as vae_lightning writes it")


def _plain(value: Any) -> bool:
    """Whether it is numbers that lie in memory of their own."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


class Bounded(TorchDispatchMode):
    """Inside, nothing is made that is much larger than the weights for which it is made.

    >>> with Bounded({"weight": torch.zeros(3)}):
    ...     _ = torch.nn.Linear(10**6, 10**6)
    Traceback (most recent call last):
    ValueError: it would be larger than its weights

    Args:
        weights: those that a model is to get.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.largest = SLACK + 2 * sum(weight.numel() for weight in weights.values())
        self.calls = CALLS + 100 * len(weights)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls -= 1
        asked = max(map(_size, (*args, *(kwargs or {}).values())), default=0)
        if self.calls < 0 or asked > self.largest:
            raise ValueError("it would be larger than its weights")
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and not result._is_view() and result.numel() > self.largest:
            raise ValueError("it would be larger than its weights")
        return result


def _size(argument: Any) -> int:
    """How many numbers an argument of an operation may ask for, if it is a size."""
    if isinstance(argument, int):
        return argument
    if isinstance(argument, list | tuple) and argument and all(isinstance(n, int) for n in argument):
        return torch.Size(argument).numel() if max(argument) < 2**40 else 2**40
    return 0


def refused(path: Path | str, error: Exception) -> UserError:
    """The error where no model can be made as a file says."""
    return UserError(f"{path}: no model can be made as it says ({first_line(error)})")
