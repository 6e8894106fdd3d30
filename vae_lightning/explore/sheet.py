"""A sheet of paper in the page, and how what was drawn on it comes back."""

from __future__ import annotations

import base64
import binascii
import io
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from vae_lightning.errors import UserError

SIDE = 280  # pixels
PEN = 22
MOST = 4096  # pixels a side of an uploaded image, before it is made smaller

TEMPLATE = f'<canvas width="{SIDE}" height="{SIDE}"></canvas><button type="button">Clear</button>'
CSS = f"""
canvas {{ width: 100%; max-width: {SIDE}px; border: 1px solid #999; background: white; cursor: crosshair;
          touch-action: none; display: block; }}
button {{ margin-top: 6px; font: inherit; padding: 2px 12px; }}
"""
SCRIPT = f"""
const canvas = element.querySelector('canvas'), pen = canvas.getContext('2d');
let down = false;
const at = e => [e.offsetX * {SIDE} / canvas.clientWidth, e.offsetY * {SIDE} / canvas.clientHeight];
const clear = () => {{ pen.fillStyle = 'white'; pen.fillRect(0, 0, {SIDE}, {SIDE}); }};
const send = () => {{ trigger('input', {{ picture: canvas.toDataURL('image/png') }}); }};
Object.assign(pen, {{ lineWidth: {PEN}, lineCap: 'round', lineJoin: 'round', strokeStyle: 'black' }});
clear();
canvas.addEventListener('pointerdown', e => {{
  down = true; canvas.setPointerCapture(e.pointerId); pen.beginPath(); pen.moveTo(...at(e)); pen.lineTo(...at(e));
  pen.stroke();
}});
canvas.addEventListener('pointermove', e => {{ if (down) {{ pen.lineTo(...at(e)); pen.stroke(); }} }});
for (const end of ['pointerup', 'pointercancel'])
  canvas.addEventListener(end, () => {{ if (down) {{ down = false; send(); }} }});
element.querySelector('button').addEventListener('click', clear);
"""  # each stroke is sent when the pen leaves the paper


def drawn(url: str) -> Tensor:
    """What the sheet sends, a `data:` address with a PNG -> a picture (3, H, W) in [0, 1].

    Raises:
        UserError: it is no image.
    """
    try:
        return picture(io.BytesIO(base64.b64decode(url.partition(",")[2], validate=True)))
    except binascii.Error as error:
        raise UserError("this is no image that can be read") from error


def picture(file: str | IO[bytes]) -> Tensor:
    """An image file -> (3, H, W) in [0, 1]: upright, and on white where it is transparent.

    Raises:
        UserError: it is no image, or one that is damaged.
    """
    try:
        with Image.open(file) as image:
            image.thumbnail((MOST, MOST))
            upright = ImageOps.exif_transpose(image).convert("RGBA")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise UserError("this is no image that can be read") from error
    pixels = np.asarray(Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB"))
    return torch.from_numpy(pixels.copy()).movedim(-1, 0).to(torch.get_default_dtype()) / 255
