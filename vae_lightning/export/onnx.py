"""Encoder and decoder as ONNX files, compared with PyTorch by onnxruntime."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vae_lightning.atomic import replaced
from vae_lightning.confined import confine
from vae_lightning.errors import UserError, first_line
from vae_lightning.model.vae import VAE
from vae_lightning.progress import track

FILES = "encoder.onnx", "decoder.onnx"
OF_Q = {"z": "mode", "mean": "mean", "stddev": "stddev", "index": "index"}  # outputs of the encoder, as q calls them
EXAMPLE, COMPARED = 3, (1, 2, 7)  # images at once: when the graph is traced, and when it is compared


class Encoder(nn.Module):
    """x (B, C, H, W), c (B, n_context) -> what q(z | x, c) says, in the order of `outputs`."""

    def __init__(self, vae: VAE, outputs: Sequence[str]) -> None:
        super().__init__()
        self.vae, self.outputs = vae, outputs

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, ...]:
        q = self.vae.encode(x, c)
        return tuple(getattr(q, OF_Q[name]) for name in self.outputs)


class Decoder(nn.Module):
    """z (B, *latent), c (B, n_context) -> E[x | z, c], (B, C, H, W)."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor]:
        return (self.vae.decode(z, c).mean,)


@dataclass(frozen=True)
class Part:
    """What became of encoder or decoder."""

    file: str
    inputs: dict[str, list[Any]]  # name -> shape; a text is a size that may change
    outputs: dict[str, list[Any]]
    difference: float = 0.0  # the largest between onnxruntime and PyTorch
    reason: str = ""  # why there is no file; empty: there is one


@torch.no_grad()
def convert(vae: VAE, x: Tensor, c: Tensor, folder: Path, tolerance: float) -> list[Part]:
    """Write `encoder.onnx` and `decoder.onnx`, in float32, for any number of images.

    The encoder gives `z`, the mode of q(z | x), which `reconstruct` decodes, and where q has them its `mean`, `stddev`
    and `index` (of the codes). The decoder gives `mean`, E[x | z].

    Args:
        vae: on the CPU, in evaluation mode; becomes float32.
        x: test images (N, C, H, W) to compare with.
        c: their contexts (N, n_context).
        folder: to write into.
        tolerance: the largest difference between onnxruntime and PyTorch.

    Raises:
        UserError: onnxruntime is not installed, or the difference is larger.
    """
    confine()
    try:
        import onnxruntime  # type: ignore[import-untyped]  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f'{error}: say pip install "vae-lightning[export]", or onnx=false') from error
    vae = vae.float().eval()
    rows = torch.arange(max(COMPARED)) % len(x)
    images, context = x[rows].float(), {"c": c[rows].float()} if vae.n_context else {}
    q = vae.encode(images, context.get("c"))
    given = {"x": images, **context}, {"z": q.mode, **context}
    modules = Encoder(vae, [name for name in OF_Q if _has(q, OF_Q[name])]), Decoder(vae)
    names = modules[0].outputs, ["mean"]
    found = []
    for file, module, inputs, outputs in track(zip(FILES, modules, given, names, strict=True), "ONNX", len(FILES)):
        part, content = _convert(file, module.eval(), inputs, outputs)
        if content and not part.difference <= tolerance:
            raise UserError(
                f"{file}: its numbers are up to {part.difference:.2g} from PyTorch's, more than "
                f"tolerance={tolerance:g}; it was not written. Say tolerance={2 * part.difference:.1g} if that is near "
                "enough, or onnx=false"
            )
        if content:
            with replaced(folder / file, "wb") as stream:
                stream.write(content)
        found.append(part)
    return found


def _convert(
    file: str, module: nn.Module, inputs: dict[str, Tensor], outputs: Sequence[str]
) -> tuple[Part, bytes | None]:
    def missing(reason: str) -> tuple[Part, None]:
        return Part(file, {}, {}, reason=reason), None

    first, second = (module(*inputs.values()) for _ in range(2))
    if not all(map(torch.equal, first, second)):
        return missing("what it gives is no function of z alone: it draws the latents below z at random")
    try:
        content = graph(module, inputs, outputs)
    except torch.onnx.OnnxExporterError as error:
        return missing(f"torch.onnx cannot express it: {first_line(error.__cause__ or error)}")  # type: ignore[arg-type]
    try:
        worst, shapes = compare(content, module, inputs)
    except Exception as error:  # those of onnxruntime have no other class in common
        return missing(f"onnxruntime cannot run it: {first_line(error)}")
    return Part(file, *shapes, worst), content


def graph(module: nn.Module, inputs: dict[str, Tensor], outputs: Sequence[str]) -> bytes:
    """The ONNX file of `module`, whose inputs may have any first dimension."""
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "# The axis name: batch will not be used")  # x and c share it, as they must
        program = torch.onnx.export(
            module,
            tuple(value[:EXAMPLE].clone() for value in inputs.values()),  # a view would carry its base's size along
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            dynamo=True,
            verbose=False,
            custom_translation_table={torch.ops.aten._cdist_forward.default: _distances},
        )
    assert program is not None
    model = program.model_proto
    for node in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        node.ClearField("metadata_props")  # stack traces, with the paths of this machine
    return bytes(model.SerializeToString())


def compare(
    content: bytes, module: nn.Module, inputs: dict[str, Tensor]
) -> tuple[float, tuple[dict[str, list[Any]], dict[str, list[Any]]]]:
    """The largest difference between an ONNX file and `module`, and the shapes of inputs and outputs."""
    import onnxruntime

    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, quiet, providers=["CPUExecutionProvider"])
    worst = torch.zeros((), dtype=torch.float64)
    for n in COMPARED:
        some = {name: value[:n] for name, value in inputs.items()}
        found = session.run(None, {name: value.numpy() for name, value in some.items()})
        for one, other in zip(found, module(*some.values()), strict=True):
            if one.shape != other.shape:
                raise ValueError(f"its result has the shape {one.shape}, not {tuple(other.shape)}")
            worst = torch.maximum(worst, (torch.from_numpy(one).double() - other.double()).abs().max())
    shapes = tuple({node.name: node.shape for node in nodes} for nodes in (session.get_inputs(), session.get_outputs()))
    return worst.item(), shapes  # type: ignore[return-value]


def _has(q: Distribution, name: str) -> bool:
    try:
        getattr(q, name)
    except (AttributeError, NotImplementedError):
        return False
    return True


def _distances(x: Any, y: Any, p: float, mode: int | None) -> Any:
    """torch.cdist of few points, which torch.onnx does not know: (B, P, D), (K, D) -> (B, P, K), Euclidean."""
    assert p == 2
    from onnxscript import opset20 as op

    def axis(i: int) -> Any:
        return op.Constant(value_ints=[i])

    return op.ReduceL2(op.Sub(op.Unsqueeze(x, axis(-2)), op.Unsqueeze(y, axis(-3))), axis(-1), keepdims=0)
