"""What the speed table holds: a row for each claim, its target and what it needs."""

from __future__ import annotations

from typing import Literal, NamedTuple

GPU = "cuda"


class Row(NamedTuple):
    """A claim about speed or memory.

    >>> Row("a", "reading", "<=", 1.05, "x").target
    '≤ 1.05 ×'
    """

    key: str
    work: str
    relation: Literal["<=", ">="]
    bound: float
    unit: str
    device: str = "cpu"

    @property
    def target(self) -> str:
        return f"{'≤' if self.relation == '<=' else '≥'} {self.amount(self.bound)}"

    def met(self, value: float) -> bool:
        return value <= self.bound if self.relation == "<=" else value >= self.bound

    def amount(self, value: float) -> str:
        """A number with its unit: `x` is a ratio, `%` is of 1.

        >>> Row("a", "", ">=", 0.6, "%").amount(0.5), Row("a", "", ">=", 1e6, "images/s").amount(1234567.8)
        ('50 %', '1 234 568 images/s')
        """
        if self.unit == "%":
            return f"{100 * value:.0f} %"
        digits = 0 if abs(value) >= 1000 else 2
        return f"{value:,.{digits}f} {'×' if self.unit == 'x' else self.unit}".replace(",", " ")


MLP = "default MLP, batch {}: full Trainer, its time / that of the bare loop"
TEMPLATE = "DataLoader + torchvision transforms, same module, batch {}: its time / ours"
START = "`{}`, the whole command"
GPU_MLP = "default MLP, batch 128, full Trainer, captured graphs"

ROWS = (
    Row("mlp-32", MLP.format(32), "<=", 1.10, "x"),
    Row("mlp-128", MLP.format(128), "<=", 1.05, "x"),
    Row("mlp-512", MLP.format(512), "<=", 1.03, "x"),
    Row("conv-bf16", "conv, batch 128, `cpu_bf16`, channels-last: bare float32 loop's time / ours", ">=", 1.6, "x"),
    Row("pythae", "pythae 0.1.2's trainer, same network, same images, batch 128: its time / ours", ">=", 2, "x"),
    Row("template-32", TEMPLATE.format(32), ">=", 2.5, "x"),
    Row("template-128", TEMPLATE.format(128), ">=", 1.8, "x"),
    Row("help", START.format("--help"), "<=", 1, "s"),
    Row("cfg", START.format("--cfg job"), "<=", 1, "s"),
    Row("typing-error", "a typing error, " + START.format("los.beta=4"), "<=", 1, "s"),
    Row("start", "start to the first step / `import lightning, torchvision`", "<=", 1.3, "x"),
    Row("nll-peak", "NLL, 5000 samples: matrix-product peak reached", ">=", 0.6, "%"),
    Row("ensemble-cpu", "8 seeds, `hydra/launcher=vectorized`: time / one after the other", "<=", 1, "x"),
    Row("memory-default", "peak memory of the default run / what it needs", "<=", 1.3, "x"),
    Row("memory-conv", "peak memory, conv, batch 1024 / what it needs", "<=", 1.3, "x"),
    Row("memory-million", "peak memory, 1 M images of 28x28 / what it needs", "<=", 1.3, "x"),
    Row("growth", "cost per image, 1 k to 1 M images: the dearest / the cheapest", "<=", 1.2, "x"),
    Row("nll-memory", "NLL, peak memory with 10 000 samples / with 100", "<=", 1.05, "x"),
    Row("gpu-mlp", GPU_MLP + ", TF32", ">=", 1e6, "images/s", GPU),
    Row("gpu-mlp-float32", GPU_MLP + ", float32", ">=", 1e6, "images/s", GPU),
    Row("gpu-plain", GPU_MLP + ": time of plain Lightning with a DataLoader / ours", ">=", 8, "x", GPU),
    Row("gpu-iwae", "IWAE architecture, batch 20, 60 000 images", "<=", 0.6, "s", GPU),
    Row("gpu-conv", "conv, bfloat16, batch 128: speed / that of a graph captured by hand", ">=", 0.6, "%", GPU),
    Row("gpu-nll", "NLL, 5000 samples, the whole test set", "<=", 15, "s", GPU),
    Row("gpu-ensemble", "an epoch of 32 seeds, trained together: time / that of one", "<=", 4, "x", GPU),
)
