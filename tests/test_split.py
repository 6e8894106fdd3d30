"""A data set is divided where it lies: the same images as by an index, and never two copies of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vae_lightning.data import split
from vae_lightning.data.images import Images, Raw

FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "as they lie": lambda x: x,
    "colours last": lambda x: x.permute(0, 3, 1, 2),
    "a part of more": lambda x: torch.cat([x, x])[: len(x)],
    "from the middle of memory": lambda x: torch.cat([torch.zeros(3).byte(), x.flatten()])[3:].view(x.shape),
    "floats": lambda x: x.float(),
}


def images(n: int, *shape: int) -> Tensor:
    return torch.randint(256, (n, *shape), dtype=torch.uint8)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(4, 5, 3), (4, 7, 2), (1, 1, 1)])  # 60, 56 and 1 bytes: eights, or not
@pytest.mark.parametrize("n_first", [1, 12])
def test_dividing_is_indexing(form: str, shape: tuple[int, ...], n_first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split, "PORTION", 3)
    x, order = FORMS[form](images(13, *shape)), torch.randperm(13)
    before = x.clone()
    others, first = split.divide(x, order, n_first)
    assert torch.equal(first, before[order[:n_first]])
    assert torch.equal(others, before[order[n_first:]])


class Given:
    """A source of images that the test holds."""

    name = "given"

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def read(self, root: Path | None) -> Raw:
        y = torch.arange(len(self.x))
        return Raw((self.x, y), (images(5, 1, 4, 4), torch.arange(5)))


def served(x: Tensor, limit: int | None = None) -> Images:
    how = {"seed": 0, "minibatches_per_step": 1, "accumulate_grad_batches": 1}
    return Images(Given(x), val_size=20, limit=limit, **how)


def test_training_and_validation_images_lie_in_the_memory_that_was_read() -> None:
    x = images(100, 1, 4, 4)
    before, inside = x.clone(), range(x.data_ptr(), x.data_ptr() + x.nbytes)
    data = served(x)
    assert data.train[0].data_ptr() in inside
    assert torch.equal(data.train[0], before[data.train[1]])  # a label is where its image was


def test_a_few_images_do_not_keep_all_of_them() -> None:
    x = images(100, 1, 4, 4)
    whole, few = served(x.clone()), served(x, limit=3)
    assert torch.equal(few.train[0], whole.train[0][:3])
    assert torch.equal(few.train[1], whole.train[1][:3])
    assert few.train[0].untyped_storage().nbytes() == few.train[0].nbytes
