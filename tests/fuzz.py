"""What reads files of others, given damaged ones: `python tests/fuzz.py <target> <seconds> <seed> <checkpoint>`.

Each reader gets a file that is right and then changed: bits flipped, cut, spliced, with numbers in it that declare huge
sizes; where it is packed, as a gzip is, also what is inside it. It has to return a right value or to raise an error in
words, in little memory and time. A line of JSON at the end says how many were tried, and what went wrong with the first
few. All of it is a function of the seed.
"""

from __future__ import annotations

import faulthandler
import gzip
import io
import json
import random
import re
import resource
import struct
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vae_lightning.checkpoint import FORMATS, load, read_checkpoint
from vae_lightning.data import cifar10, dsprites
from vae_lightning.data.cifar10 import Cifar10
from vae_lightning.data.dsprites import DSprites
from vae_lightning.data.folder import read_image
from vae_lightning.data.idx import Idx
from vae_lightning.data.table import table
from vae_lightning.errors import UserError

MEMORY = 1 << 30  # bytes that reading a small file may take beside what is taken already
LITTLE = MEMORY // 4  # likewise, of a bomb
HANG = 60  # seconds
FINDINGS = 5  # that are told
SMALL = (3, 2, 2, 2, 2)  # values of the factors of dSprites

Change = Callable[[random.Random, bytes], bytes]


@dataclass
class Target:
    """A reader: `read` gets the content of a file, and `right` looks at what it returned."""

    seeds: list[bytes]
    read: Callable[[bytes, Path], Any]
    right: Callable[[Any], bool]
    inside: Callable[[random.Random, bytes, Change], bytes] | None = None  # changes what is packed, and packs it again
    ends: list[bytes] = field(default_factory=list)  # other heads and tails to splice


# ---- files that are right -------------------------------------------------------------------------------------------
def idx_file(shape: Sequence[int]) -> bytes:
    """An IDX file of bytes, not compressed, with labels below 10."""
    values = np.random.default_rng(0).integers(0, 10, shape, dtype=np.uint8)
    return bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4) for n in shape) + values.tobytes()


def npy_file(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def dsprites_file() -> bytes:
    file = io.BytesIO()
    images = np.random.default_rng(0).integers(0, 2, (int(np.prod(SMALL)), 64, 64), dtype=np.uint8)
    np.savez_compressed(file, imgs=images, latents_classes=np.indices((1, *SMALL)).reshape(6, -1).T)
    return file.getvalue()


def cifar10_file() -> bytes:
    """The archive with two images a file."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
            rows = np.random.default_rng(0).integers(0, 10, (2, 3073), dtype=np.uint8)
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = rows.size
            archive.addfile(member, io.BytesIO(rows.tobytes()))
    return gzip.compress(file.getvalue(), 1)


def image_files() -> Iterator[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 4), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF"):
        for mode in ("RGB", "L", "RGBA", "P"):
            if not (kind == "JPEG" and mode in ("RGBA", "P")):
                file = io.BytesIO()
                image = Image.fromarray(pixels).convert("RGB").convert(mode)
                image.save(file, kind, **({"exif": exif} if kind in ("PNG", "JPEG", "WEBP") else {}))
                yield file.getvalue()
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0].astype(np.uint16) << 8).save(file, "PNG")
    yield file.getvalue()


# ---- changes --------------------------------------------------------------------------------------------------------
def change(draw: random.Random, content: bytes) -> bytes:
    """One to four changes."""
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        content = draw.choice((flip, flip, cut, extreme, number, digits, repeat, remove, insert))(draw, content)
    return content


def place(draw: random.Random, content: bytes) -> int:
    """Somewhere; rather at the beginning, where most of what is declared stands, or at the end."""
    n = max(1, len(content))
    return draw.choice((draw.randrange(n), draw.randrange(min(n, 64)), n - 1 - draw.randrange(min(n, 64))))


def flip(draw: random.Random, content: bytes) -> bytes:
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 3, 20))):
        if data:
            data[place(draw, content)] ^= 1 << draw.randrange(8)
    return bytes(data)


def cut(draw: random.Random, content: bytes) -> bytes:
    return content[: place(draw, content)]


def extreme(draw: random.Random, content: bytes) -> bytes:
    at = place(draw, content)
    return content[:at] + bytes([draw.choice((0, 1, 10, 32, 127, 128, 255))]) * draw.choice((1, 4)) + content[at + 1 :]


def number(draw: random.Random, content: bytes) -> bytes:
    """A number that may be taken for a size, a count or a place."""
    value = draw.choice((0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1))
    form = draw.choice([form for form in ("<H", ">H", "<I", ">I", "<Q", ">Q") if value < 256 ** struct.calcsize(form)])
    at, packed = place(draw, content), struct.pack(form, value)
    return content[:at] + packed + content[at + len(packed) :]


def digits(draw: random.Random, content: bytes) -> bytes:
    """Another number in a header of text."""
    places = [i for i in range(min(len(content), 4096)) if chr(content[i]).isdigit() and content[i] < 128]
    if not places:
        return content
    at = draw.choice(places)
    return content[:at] + draw.choice((b"-1", b"0", b"9" * 12, b"1e9", b"1" + b"0" * 400, b"nan")) + content[at + 1 :]


def repeat(draw: random.Random, content: bytes) -> bytes:
    start, size = place(draw, content), draw.choice((1, 8, 100))
    return content[:start] + content[start : start + size] * draw.choice((2, 50)) + content[start + size :]


def remove(draw: random.Random, content: bytes) -> bytes:
    start = place(draw, content)
    return content[:start] + content[start + draw.choice((1, 2, 8, 100)) :]


def insert(draw: random.Random, content: bytes) -> bytes:
    at = place(draw, content)
    return content[:at] + draw.randbytes(draw.choice((1, 4, 100))) + content[at:]


def in_gzip(draw: random.Random, content: bytes, how: Change) -> bytes:
    return gzip.compress(how(draw, gzip.decompress(content)), 1)


def in_zip(draw: random.Random, content: bytes, how: Change) -> bytes:
    """One file of the archive changed, with the checksum of what it is now."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        names = old.namelist()
        pickles = [name for name in names if name.endswith("data.pkl")]
        victim = draw.choice(pickles if pickles and draw.random() < 0.7 else names)
        for name in names:
            new.writestr(name, how(draw, old.read(name)) if name == victim else old.read(name))
    return file.getvalue()


def bombs(checkpoint: Path) -> Iterator[tuple[str, bytes]]:
    """Small files that declare, or unpack to, more than there is."""
    yield "idx", gzip.compress(bytes([0, 0, 8, 3]) + 3 * (2**31).to_bytes(4))
    yield "idx", gzip.compress(bytes([0, 0, 8, 3]) + 3 * (2**32 - 1).to_bytes(4) + bytes(100))
    yield "idx", gzip.compress(bytes([0, 0, 8, 3]) + (2).to_bytes(4) * 3 + bytes(LITTLE + LITTLE // 8), 1)
    for shape in ("(1000000000000,)", "(3000000000, 3)", f"({10**400}, 2)"):
        head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(501) + "\n"
        content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + bytes(100)
        yield "npy", content
        yield "dsprites", in_zip(random.Random(0), dsprites_file(), lambda _, old, content=content: content)
    for size in (2**31 - 1, 60_000):  # PIL itself draws a line at 179 million pixels
        head = b"IHDR" + struct.pack(">II5B", size, size, 8, 6, 0, 0, 0)
        lines = b"IDAT" + zlib.compress(bytes(10**7))
        chunks = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (head, lines, b"IEND"))
        yield "image", b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
    member = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
    member.size = 2**35
    yield "cifar10", gzip.compress(member.tobuf() + bytes(100))
    yield "cifar10", gzip.compress(member.tobuf() + bytes(LITTLE + LITTLE // 8), 1)

    def huge(_: random.Random, old: bytes) -> bytes:
        size = rb"(FloatStorage.{1,60}cpuq.)(K.|M..|J....)(tq)"
        return re.sub(size, lambda found: found[1] + b"J\xff\xff\xff\x7f" + found[3], old, flags=re.DOTALL)

    yield "checkpoint", in_zip(random.Random(1), checkpoint.read_bytes(), huge)


# ---- readers --------------------------------------------------------------------------------------------------------
def targets(checkpoint: Path | None) -> dict[str, Target]:
    cifar10.IMAGES_PER_FILE, dsprites.VALUES = 2, SMALL
    mnist = Idx("MNIST", "http://127.0.0.1:9")
    good = {name: gzip.compress(idx_file((5, 8, 8) if "images" in name else (5,))) for name in mnist.files.md5}
    first = next(iter(good))

    def served(source: Any, content: Callable[[str], bytes]) -> Any:
        source.files.read = lambda root, file: content(file)
        return source.read(Path("data"))

    def in_file(name: str, read: Callable[[Path], Any]) -> Callable[[bytes, Path], Any]:
        def whole(content: bytes, folder: Path) -> Any:
            (folder / name).write_bytes(content)
            return read(folder / name)

        return whole

    def raw(value: Any) -> bool:
        return all(x.dtype == torch.uint8 and x.dim() == 4 and len(x) == len(y) for x, y in (value.train, value.test))

    numbers = np.random.default_rng(0).normal(size=(6, 3))
    csv = "a,b,c\n" + "".join(",".join(map(str, row)) + "\n" for row in numbers)
    found = {
        "idx": Target(
            [good[first]],
            lambda content, _: served(mnist, lambda file: content if file == first else good[file]),
            raw,
            in_gzip,
        ),
        "cifar10": Target([cifar10_file()], lambda content, _: served(Cifar10(), lambda _: content), raw, in_gzip),
        "dsprites": Target([dsprites_file()], lambda content, _: served(DSprites(), lambda _: content), raw, in_zip),
        "npy": Target(
            [npy_file(numbers), npy_file(numbers.astype(np.float32).T), npy_file(np.arange(6).reshape(2, 3) > 2)],
            in_file("a.npy", table),
            lambda value: value.dim() == 2 and value.isfinite().all().item(),
        ),
        "csv": Target(
            [csv.encode(), csv.encode("utf-8-sig"), b"1,2\n3,4\n"],
            in_file("a.csv", table),
            lambda value: value.dim() == 2 and value.isfinite().all().item(),
        ),
        "image": Target(
            list(image_files()),
            in_file("a.png", lambda path: read_image(path, 8, 3)),
            lambda value: value.shape == (3, 8, 8) and value.dtype == np.uint8,
        ),
    }
    if checkpoint is not None:
        content, whole = checkpoint.read_bytes(), read_checkpoint(checkpoint)
        found["checkpoint"] = Target(
            [content],
            in_file("a.ckpt", read_checkpoint),
            lambda value: isinstance(value, dict) and value["vae_lightning"]["format"] in FORMATS,
            in_zip,
        )
        found["bits"] = Target(  # of a file that nothing was packed into again, what is read is what was written
            [content], in_file("a.ckpt", read_checkpoint), lambda value: same(value, whole)
        )
        found["load"] = Target([content], in_file("a.ckpt", load), lambda value: value is not None, in_zip)
    return found


def same(a: Any, b: Any) -> bool:
    """Whether two values of dictionaries, lists, tensors and plain values are equal, bit for bit."""
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if torch.is_tensor(a) and torch.is_tensor(b):
        return a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())
    return bool(a == b or a is b)


def tried(target: Target, content: bytes, folder: Path, refuse: bool = False) -> str | None:
    """What is wrong with how it is read, if something is."""
    faulthandler.dump_traceback_later(HANG, exit=True)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            value = target.read(content, folder)
    except UserError as error:
        if refuse and isinstance(error.__cause__, MemoryError):
            return "memory is asked for before it is looked at"
        return None if len(str(error)) > 10 else f"says no more than {str(error)!r}"
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {last.name}, {last.filename}:{last.lineno}: {error}"[:300]
    finally:
        faulthandler.cancel_dump_traceback_later()
    if refuse:
        return "is taken"
    return None if target.right(value) else "another value is taken for the right one"


def frugal(memory: int = MEMORY) -> None:
    """Let no more bytes be taken from here on: all else is an error."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def defused(checkpoint: str) -> None:
    """Say of each bomb what is wrong with how it is read, which is null if it is refused in words."""
    found, said = targets(Path(checkpoint)), []
    made = list(bombs(Path(checkpoint)))
    frugal(LITTLE)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in made:
            said.append([name, tried(found[name], content, Path(folder), refuse=True)])
    print(json.dumps(said))


def main(name: str, seconds: str, seed: str, checkpoint: str = "") -> None:
    torch.set_num_threads(1)
    target = targets(Path(checkpoint) if checkpoint else None)[name]
    draw, count, refused, found = random.Random(int(seed)), 0, 0, {}
    with tempfile.TemporaryDirectory() as folder:
        for content in target.seeds:
            assert (wrong := tried(target, content, Path(folder))) is None, wrong
        frugal()
        end = time.monotonic() + float(seconds)
        while time.monotonic() < end:
            content = draw.choice(target.seeds)
            if target.inside is not None and draw.random() < 0.6:
                content = target.inside(draw, content, change)
            elif draw.random() < 0.1:
                other = draw.choice(target.seeds)
                content = content[: place(draw, content)] + other[place(draw, other) :]
            else:
                content = change(draw, content)
            count += 1
            if wrong := tried(target, content, Path(folder)):
                refused += 1
                if len(found) < FINDINGS and wrong not in found:
                    Path(tempfile.gettempdir(), f"fuzz-{name}-{seed}-{count}").write_bytes(content)
                    found[wrong] = count
    print(json.dumps({"target": name, "seed": int(seed), "examples": count, "wrong": refused, "findings": list(found)}))


if __name__ == "__main__":
    defused(sys.argv[2]) if sys.argv[1] == "bombs" else main(*sys.argv[1:])
