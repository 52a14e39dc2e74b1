"""A model as ONNX, for programs without torch."""

from __future__ import annotations

import importlib.util
import json
import tempfile
import warnings
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from torch import Tensor, nn

from weakseg import __version__
from weakseg.data.image_inputs import GivenImage, given_pixels, given_size
from weakseg.demo_data.data_set import draw_demo
from weakseg.files import write_atomic
from weakseg.models.segmenter import Segmenter
from weakseg.ops.cams import LEAST_SIDE, network_size
from weakseg.predict import model_folder
from weakseg.runs.run_dir import RunDir
from weakseg.types import ConfigError, DataError, RunError

TOLERANCE = 1e-3
"""Most that logits may differ from torch's."""

_NEEDED = ("onnx", "onnxruntime", "onnxscript")
_SIZE_RULE = "each side: max(1, round(side * (long_side / longer side) / multiple)) * multiple"
_EXAMPLE = (96, 128)  # neither batch nor sizes may be 1 or equal: export would fix them


def export_onnx(run: Path | str, out: Path | str, console: Console | None = None) -> Path:
    """Writes a run's model as one ONNX file for any batch and size, after comparing it with torch.

    Input `images`: float32 [batch,3,height,width], RGB in 0..1, resized as the metadata tell.
    Output `logits`: float32 [batch,K+1,height,width], background first; `scores`: the same on the
    network's own grid, from which `Labeler` enlarges them to the size of the image itself. The
    metadata (`metadata_props`) hold `classes` (JSON list of the names of labels 1..K), `long_side`
    and `multiple` (pixels), `size` (the rule of the size by them), `input`, `output` and `weakseg`
    (version). README shows what else a program has to do to label as `Labeler` does.

    Both are compared by onnxruntime on images of the run (on drawn ones where there are none), in
    two sizes and batch sizes.

    Args:
        run: A finished run's folder, or a model's.
        out: The file to write.
        console: Where to say how much they differ; nowhere if None.

    Returns:
        The file.

    Raises:
        ConfigError: The packages of the extra `onnx` are not installed.
        RunError: There is no model, or the file cannot be written or differs from the model.

    Example:
        >>> export_onnx("runs/cats", "cats.onnx")  # doctest: +SKIP
        PosixPath('cats.onnx')
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"export to onnx needs {', '.join(missing)}; pip install 'weakseg[onnx]'")
    out = Path(out)
    if out.is_dir():
        raise RunError(f"{out} is a folder; give the name of a file, as model.onnx")
    network = Segmenter.from_pretrained(model_folder(run))
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "model.onnx"
        _save(network, draft)
        difference = _difference(network, draft, _batches(RunDir(run), network))
        if not difference <= TOLERANCE:
            raise RunError(
                f"{out} is not written: the ONNX model differs from torch by {difference:.1e}, "
                f"more than {TOLERANCE:.0e}; try other versions of torch and onnxscript"
            )
        write_atomic(out, draft.read_bytes())
    if console is not None:
        text = f"onnx: differs from torch by {difference:.1e} at most: {out}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    return out


class _Outputs(nn.Module):
    """A network with the outputs of the file."""

    def __init__(self, network: Segmenter) -> None:
        super().__init__()
        self.network = network
        self.fits = network.multiple % network.cell == 0

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, coarse = self.network.both(images)
        # As `Labeler` does: where inputs are padded, only what was not is enlarged.
        return logits, coarse if self.fits else logits.clone()


def _save(network: Segmenter, path: Path) -> None:
    sizes = {0: "batch", 2: "height", 3: "width"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Outputs(network).eval(),
            (torch.rand(2, network.channels, *_EXAMPLE),),
            dynamo=True,
            input_names=["images"],
            output_names=["logits", "scores"],
            dynamic_shapes=({axis: torch.export.Dim(name) for axis, name in sizes.items()},),
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props.update(
        {
            "classes": json.dumps(network.class_names, ensure_ascii=False),
            "long_side": str(network.long_side),
            "multiple": str(network.multiple),
            "size": _SIZE_RULE,
            "input": f"images: float32 [batch,{network.channels},height,width], "
            f"{'RGB in' if network.channels == 3 else 'in'} 0..1",
            "output": "logits: float32 [batch,classes+1,height,width], background first; scores: "
            "the same before they are enlarged",
            "weakseg": __version__,
        }
    )
    program.save(path, external_data=False)


def _batches(run: RunDir, network: Segmenter) -> list[Tensor]:
    """One image in the model's size, and two in another: float32 [B,C,h,w] in 0..1."""
    channels = network.channels
    images: list[GivenImage] = []
    for sample in run.load_catalog() if run.is_run else ():
        try:
            given_pixels(sample.image, (8, 8), channels=channels)
        except DataError:  # moved since, perhaps
            continue
        images.append(sample.image)
        if len(images) == 3:
            break
    drawn = (_banded(draw_demo(index, seed=0).image, channels) for index in range(3))
    images += islice(drawn, 3 - len(images))
    height, width = network_size(
        *given_size(images[0], channels), network.long_side, network.multiple
    )
    other = (max(LEAST_SIDE, 3 * height // 4 + 1), max(LEAST_SIDE, 3 * width // 4 - 1))
    return [
        torch.stack([given_pixels(image, size, channels=channels) for image in some]) / 255
        for some, size in ((images[:1], (height, width)), (images[1:], other))
    ]


def _banded(image: npt.NDArray[np.uint8], channels: int) -> npt.NDArray[np.uint8]:
    """A drawn RGB image [H,W,3] as one of other channels."""
    return image if channels == 3 else image[..., [band % 3 for band in range(channels)]]


@torch.inference_mode()
def _difference(network: Segmenter, path: Path, batches: list[Tensor]) -> float:
    """The greatest difference of the logits from torch's."""
    import onnxruntime  # noqa: PLC0415

    session: Any = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    outputs = _Outputs(network)
    for images in batches:
        made = session.run(["logits", "scores"], {"images": images.numpy()})
        for ours, theirs in zip(made, outputs(images), strict=True):
            if ours.shape != theirs.shape:
                return float("inf")
            worst = max(worst, float((torch.from_numpy(ours) - theirs).abs().max()))
    return worst
