"""What others do on a GPU: plain Lightning with a DataLoader, and a CUDA graph captured by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmark.harness import seconds
from benchmark.loops import Stopwatch


class Module(L.LightningModule):
    """A model and its loss under automatic optimisation, with a logged loss: Lightning as its manual shows it."""

    def __init__(self, model: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        grey = batch[0]
        loss, _terms = self.loss(self.model, (torch.rand_like(grey) < grey).float(), grey.new_zeros(len(grey), 0))
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


class Plain:
    """`Module` under a Trainer with its usual settings: bar, curves, a checkpoint per epoch."""

    def __init__(
        self, folder: Path, model: nn.Module, loss: nn.Module, loader: DataLoader[Any], accelerator: str
    ) -> None:
        self.module, self.loader, self.watch = Module(model, loss), loader, Stopwatch()
        self.trainer = L.Trainer(
            accelerator=accelerator, devices=1, max_epochs=0, default_root_dir=folder, callbacks=[self.watch]
        )

    def epoch(self) -> float:
        self.trainer.fit_loop.max_epochs = self.trainer.current_epoch + 1
        self.trainer.fit(self.module, self.loader)
        return self.watch.epochs[-1] / len(self.loader.dataset)  # type: ignore[arg-type]


class ByHand:
    """A step of a VAE in bfloat16 and channels-last, with fused Adam, as one CUDA graph; step by step on a processor.

    Args:
        images: (N, 1, H, W) uint8, on the device.
        batch_size: images per step; what is left over at the end of an epoch is left out.
        encoder, decoder: networks, (x, c) to parameters; trained in place.
    """

    def __init__(self, images: Tensor, batch_size: int, encoder: nn.Module, decoder: nn.Module) -> None:
        self.images, self.batch_size, self.device = images, batch_size, images.device
        self.encoder, self.decoder = (m.to(memory_format=torch.channels_last) for m in (encoder, decoder))
        self.parameters = [*encoder.parameters(), *decoder.parameters()]
        card = self.device.type == "cuda"
        self.optimizer = torch.optim.Adam(self.parameters, fused=True, capturable=card)
        self.chosen = torch.arange(batch_size, device=self.device)
        self.none = torch.zeros(batch_size, 0, device=self.device)
        self.replay = self._captured() if card else self._step

    def epoch(self) -> float:
        return seconds(self._epoch) / (len(self.images) // self.batch_size * self.batch_size)

    def _epoch(self) -> None:
        order = torch.randperm(len(self.images), device=self.device)
        for chosen in order.split(self.batch_size):
            if len(chosen) == self.batch_size:
                self.chosen.copy_(chosen)
                self.replay()

    def _step(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None
        grey = self.images[self.chosen]
        x = (torch.rand(grey.shape, device=self.device) * 255 < grey).float()
        x = x.to(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False):
            mean, log_variance = self.encoder(x, self.none).float().chunk(2, -1)
            sigma = (log_variance / 2).exp()
            logits = self.decoder(mean + sigma * torch.randn_like(mean), self.none).float()
        distortion = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        rate = 0.5 * (mean**2 + sigma**2 - 1 - log_variance).sum()
        ((distortion + rate) / len(x)).backward()
        self.optimizer.step()

    def _captured(self) -> Any:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # what is made at first use must not be captured
                self._step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        self.graph = graph
        return graph.replay
