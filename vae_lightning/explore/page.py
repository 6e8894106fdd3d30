"""The page, as gradio builds it. What happens when it is touched is said in `Moves`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import gradio as gr

from vae_lightning.errors import UserError
from vae_lightning.explore import sheet
from vae_lightning.explore.moves import WALKS, Moves
from vae_lightning.explore.space import Space

FONTS = ("system-ui", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif")  # of the machine: nothing is fetched
THEME = gr.themes.Default(font=FONTS, font_mono=("ui-monospace", "DejaVu Sans Mono", "monospace"), text_size="sm")
CSS = """
.gradio-container { max-width: 1280px !important; margin: 0 auto !important; padding: 8px 20px !important; }
.gradio-container .column { gap: 8px; }
.gradio-container .html-container { padding: 0; }
.gradio-container .caption { min-height: 20px; white-space: nowrap; overflow: hidden; }
.pixels img { image-rendering: pixelated; width: 100%; }
#plane img { cursor: crosshair; }
#sliders .form { display: grid; grid-template-columns: 1fr 1fr; }
#sliders .block { padding: 7px 10px; }
#sliders label { white-space: nowrap; }
#sliders input[type=number] { width: 64px; }
#sliders .min_value, #sliders .max_value { display: none; }
"""
PICTURE: Any = {"interactive": False, "buttons": [], "format": "png", "show_label": False, "container": False}
QUIET: Any = {  # one thing at a time: all of them share the random numbers
    "show_progress": "hidden", "concurrency_id": "space", "concurrency_limit": 1, "api_visibility": "private"
}  # fmt: skip
LIVE: Any = {**QUIET, "trigger_mode": "always_last"}


def build(space: Space, title: str) -> gr.Blocks:
    """The page of a space, under a title in Markdown; not yet served."""
    moves = Moves(space)
    choices = [(str(label), label) for label in space.classes]
    number: Any = {"precision": 0, "min_width": 80}

    def click(z: list[float], label: int, event: gr.SelectData) -> Any:
        return moves.click(z, label, event.index)

    def sketch(label: int, event: gr.EventData) -> Any:
        return moves.sketch(event.picture, label)

    with gr.Blocks(title="vae_lightning", analytics_enabled=False, delete_cache=(300, 600), fill_width=True) as blocks:
        gr.Markdown(title)
        z = gr.State(space.middle.tolist())
        with gr.Row():
            with gr.Column(scale=53, min_width=400):
                _caption("The plane", "click anywhere to go there")
                plane = gr.Image(elem_id="plane", **PICTURE)
            with gr.Column(scale=25, min_width=200):
                _caption("The picture", "E[x | z] here")
                picture = _picture("picture")
                with gr.Row():
                    sample = gr.Button("Prior sample", size="sm", min_width=80, elem_id="sample")
                    reset = gr.Button("Reset", size="sm", min_width=80, elem_id="reset")
                label = gr.Dropdown(
                    choices,
                    value=space.classes[0] if choices else -1,
                    label="with label",
                    visible=space.model.n_context > 0,
                    elem_id="label",
                )
            with gr.Column(scale=40, min_width=320):
                _caption("The latents", f"by {space.worth_is}; {len(space.order)} of {len(space.middle)}")
                with gr.Group(elem_id="sliders"):
                    sliders = [_slider(space, dim) for dim in space.order]
        with gr.Row():
            with gr.Column(scale=28, min_width=270):
                _caption("An image", "draw, upload or choose")
                paper = gr.HTML(
                    html_template=sheet.TEMPLATE, css_template=sheet.CSS, js_on_load=sheet.SCRIPT, elem_id="sheet"
                )
            with gr.Column(scale=25, min_width=160):
                _caption("As the model sees it")
                seen = _picture("seen")
            with gr.Column(scale=25, min_width=160):
                _caption("Its reconstruction")
                again = _picture("again")
            with gr.Column(scale=40, min_width=240):
                _caption("")
                with gr.Row(equal_height=True):
                    upload = gr.UploadButton("Upload", file_types=["image"], size="sm", min_width=80, elem_id="upload")
                    index = gr.Number(0, label="test image", elem_id="index", **number)
                gr.Markdown(
                    f"What comes in is first made like the images of the data: {space.habit}. The ring in the plane, "
                    "the sliders and the picture go where the encoder puts it."
                )
        with gr.Row():
            with gr.Column(scale=78, min_width=420):
                _caption("From here to a test image", "in equal steps; the image itself behind the gap")
                strip = _picture("strip")
            with gr.Column(scale=40, min_width=240):
                with gr.Row():
                    target = gr.Number(1, label="to test image", elem_id="target", **number)
                    wanted = gr.Dropdown(
                        [("any", -1), *choices], value=-1, label="or the next with label", min_width=80
                    )
                walk = gr.Radio(list(WALKS), value="linear", show_label=False, elem_id="walk")
        point = [z, picture, plane]
        whole = [*point, *sliders]
        everything = [seen, again, *whole]
        for dim, slider in zip(space.order, sliders, strict=True):
            slider.input(partial(moves.slide, dim), [slider, z, label], point, **LIVE)
        plane.select(click, [z, label], whole, **LIVE)
        sample.click(moves.draw, label, whole, **QUIET)
        reset.click(moves.reset, label, whole, **QUIET)
        label.change(moves.relabel, [z, label], point, **LIVE)
        paper.input(sketch, label, everything, **LIVE)
        upload.upload(_told(moves.upload), [upload, label], everything, **QUIET)
        gr.on([index.input, blocks.load], moves.choose, [index, label], [label, *everything], **LIVE)
        gr.on(
            [z.change, target.change, walk.change, label.change], moves.strip, [z, target, walk, label], strip, **LIVE
        )
        wanted.select(moves.following, [wanted, target], target, **QUIET)
    return blocks


def _told(move: Callable[..., Any]) -> Callable[..., Any]:
    """The same, but the page says what is wrong with what a user brought."""

    @wraps(move)
    def telling(*given: Any) -> Any:
        try:
            return move(*given)
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return telling


def _caption(what: str, how: str = "") -> None:
    gr.HTML(f"<b>{what}</b> {how}", elem_classes="caption")


def _picture(name: str) -> gr.Image:
    return gr.Image(elem_id=name, elem_classes="pixels", **PICTURE)


def _slider(space: Space, dim: int) -> gr.Slider:
    low, high = space.range(dim)
    label = f"z{dim} · {space.worth[dim]:.2f}"
    slider = gr.Slider(
        round(low, 2), round(high, 2), step=0.01, precision=2, label=label, buttons=[], elem_id=f"z{dim}"
    )
    slider.preprocess = _number  # type: ignore[assignment, method-assign]  # gradio's own refuses what is typed beyond the ends
    return slider


def _number(typed: float | None) -> float:
    return typed or 0.0
