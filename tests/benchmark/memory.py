"""The peak memory of a run and what it needs, in a process of its own: `cd tests; python -m benchmark.memory a=b ...`

A first word `images=1000000` is a number of random images that take the place of MNIST's. Prints JSON, in bytes.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from benchmark.peak import peak
from vae_lightning.build import make
from vae_lightning.compose import compose
from vae_lightning.data.idx import Idx
from vae_lightning.data.images import Images, Raw
from vae_lightning.lit import LitVAE
from vae_lightning.train import build, train


def random_images(n: int) -> None:
    """Let MNIST be `n` random images for training and validation, and 1000 for test."""

    def read(self: Idx, root: Path | None) -> Raw:
        both = [torch.randint(256, (size, 1, 28, 28), dtype=torch.uint8) for size in (n, 1000)]
        train, test = ((x, torch.arange(len(x)) % 10) for x in both)
        return Raw(train, test)

    Idx.read = read  # type: ignore[method-assign]


def need(data: Images, lit: LitVAE) -> dict[str, int]:
    """Bytes of images and labels; of weights, their gradient and Adam's two moments; and of what autograd keeps of one
    minibatch for the backward pass, each piece of memory once."""
    tensors = [t for split in (data.train, data.val, data.test) for t in split]
    weights = [*lit.parameters(), *lit.buffers()]
    kept: dict[int, int] = {}

    def keep(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        values = lit.values(next(iter(next(iter(data.train_dataloader())))))
    for weight in weights:
        kept.pop(weight.untyped_storage().data_ptr(), None)
    del values
    return {
        "data": sum(t.nbytes for t in tensors),
        "weights": sum(t.nbytes for t in weights) + 3 * sum(p.nbytes for p in lit.parameters()),
        "activations": sum(kept.values()),
    }


def main(words: list[str]) -> dict[str, int]:
    """Trains, and then computes what was needed: the computation itself must not count."""
    if words and words[0].startswith("images="):
        random_images(int(words.pop(0).partition("=")[2]))
    config, choices = compose(["accelerator=cpu", "trainer.max_epochs=1", *words])
    train(config, choices, Path(tempfile.mkdtemp()))
    found = {"peak": peak()}
    data = make(config.data, seed=0, minibatches_per_step=1, accumulate_grad_batches=1)
    facts = {"shape": data.shape, "n_train": data.n_train, "n_classes": data.n_classes}
    lit = build(config, {}, data.steps_per_epoch, **facts, n_labelled=data.n_train, n_context=0)
    return found | need(data, lit)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
