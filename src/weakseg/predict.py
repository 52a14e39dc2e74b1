"""A finished model at work: image in, mask out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypedDict, Unpack

import torch
from torch import Tensor
from torch.nn import functional

from weakseg.data.image_inputs import GivenImage, listed_images
from weakseg.data.prefetch import Size, read_in_batches
from weakseg.faults import FileError, listed
from weakseg.ops.cams import LEAST_SIDE, network_size
from weakseg.ops.label_maps import best_labels, class_probabilities, quartered
from weakseg.ops.tiles import GRID, spans, tiled_scores
from weakseg.ops.tta import multi_scale_probabilities
from weakseg.runs.run_dir import RunDir
from weakseg.training.device import Inference, Precision
from weakseg.training.memory import kept_memory
from weakseg.types import DataError, RunError, Sample

if TYPE_CHECKING:
    from weakseg.models.segmenter import Segmenter

Tags = Collection[str] | None
"""Names of the classes that may be in an image; None: any."""


MODEL = "model"
"""Folder of a run's stage `segment` that holds the model."""

_MAX_PIXELS = {"cpu": 800_000}
"""Maximum pixels of a batch; on a CPU, larger ones leave its caches and take longer."""

_MAX_PIXELS_ELSEWHERE = 4_000_000
"""Maximum pixels of a batch on other devices, which bounds memory."""

_MAX_SCORES = 64_000_000
"""Most scores of a batch: 256 MB of float32."""


class LabelOptions(TypedDict, total=False):
    """The options of `Labeler`, for those that hand them on; see there."""

    precision: Precision
    scales: Sequence[float]
    mirror: bool
    batch_size: int
    long_side: int | Literal["model"] | None
    tile: int
    overlap: int
    ignore_alpha: bool | None


class Labeled(NamedTuple):
    """What became of one image.

    Attributes:
        number: Its place among the images that were given.
        mask: uint8 [H,W] on the CPU: 0 background, k the k-th class; None if it cannot be read.
        error: Why it cannot be read, or None.
        maps: If they were asked for, float16 [K+1,h,w] on the CPU: the probabilities of background
            and of each class, on the decoder's own grid or a quarter of the size in which the
            network saw the image, whichever is coarser.
    """

    number: int
    mask: Tensor | None
    error: FileError | None = None
    maps: Tensor | None = None


class Labeler:
    """Masks for images of any size, by a segmentation network.

    An image is resized to the long side that the network was trained for, and its class scores are
    enlarged to the image's size before the best is taken. With `long_side=None` it is looked at in
    its own size, beyond `tile` pixels by overlapping tiles.

    Args:
        segmenter: The network; it is moved to the device and put into eval mode.
        device: `auto` (CUDA, then MPS, then the CPU), or any device of torch.
        precision: `fp32`, `bf16`, or `auto`, see `weakseg.training.device.Inference`.
        scales: Multiples of the working size at which the network looks; of several views the
            probabilities are averaged.
        mirror: Whether it also sees the mirror image: 1.3 points of mIoU on photographs of
            animals at 1.8 times the time (`benchmarks/views.py`); further scales gain less.
        batch_size: Maximum images of equal size computed together.
        long_side: The working size (pixels, ≥ 32); `model`: the network's own; None: each image's.
        tile: Side of the tiles of large images, where they are not resized (pixels).
        overlap: What neighbouring tiles share (pixels).
        ignore_alpha: Whether a fourth channel is left out rather than read as transparency; None:
            as of the images that the network learnt from.

    Raises:
        ValueError: One of these is out of range.

    Attributes:
        class_names: Names of the classes 1..K.
        device: Where the network computes.

    Example:
        >>> labeler = Labeler.from_run("runs/cats")  # doctest: +SKIP
        >>> masks = labeler.label(["one.jpg", "two.jpg"])  # doctest: +SKIP
        >>> masks[0].shape  # doctest: +SKIP
        torch.Size([375, 500])
    """

    def __init__(
        self,
        segmenter: Segmenter,
        device: torch.device | str = "auto",
        precision: Precision = "auto",
        *,
        scales: Sequence[float] = (1.0,),
        mirror: bool = True,
        batch_size: int = 8,
        long_side: int | Literal["model"] | None = "model",
        tile: int = 768,
        overlap: int = 192,
        ignore_alpha: bool | None = None,
    ) -> None:
        if not scales or min(scales) <= 0:
            raise ValueError(f"expected scales above 0, got {tuple(scales)}")
        if batch_size < 1:
            raise ValueError(f"expected batch_size ≥ 1, got {batch_size}")
        spans(tile, tile, overlap)
        self.inference = Inference(device, precision)
        self.device = self.inference.device
        self.segmenter = segmenter.to(self.device).to(memory_format=torch.channels_last).eval()
        self.class_names = tuple(segmenter.class_names)
        self.scales, self.mirror, self.batch_size = tuple(scales), mirror, batch_size
        self.long_side = segmenter.long_side if long_side == "model" else long_side
        if self.long_side is not None and self.long_side < LEAST_SIDE:
            raise ValueError(f"expected long_side ≥ {LEAST_SIDE}, got {self.long_side}")
        self.tile, self.overlap = tile, overlap
        self.ignore_alpha = segmenter.ignore_alpha if ignore_alpha is None else ignore_alpha
        self._index = {name: k for k, name in enumerate(self.class_names, start=1)}

    @classmethod
    def from_run(
        cls,
        path: Path | str,
        device: torch.device | str = "auto",
        **options: Unpack[LabelOptions],
    ) -> Labeler:
        """The labeler of a finished run or of a model's folder; the rest as for `Labeler`.

        Raises:
            RunError: There is neither, or the run has no model yet.
        """
        from weakseg.models.segmenter import Segmenter  # noqa: PLC0415

        return cls(Segmenter.from_pretrained(model_folder(path)), device, **options)

    def label(
        self,
        images: GivenImage | Iterable[GivenImage],
        tags: Sequence[Tags] | None = None,
    ) -> list[Tensor]:
        """The masks of some images.

        Args:
            images: Paths, Pillow images, arrays uint8 [H,W,3] or tensors uint8 [3,H,W]; turned
                upright by their EXIF orientation.
            tags: For each image the names of the classes that may be in it: all others are ruled
                out (of an empty list, all). None, for an image or as a whole: any may be.

        Returns:
            For each image its mask uint8 [H,W] on the CPU: 0 background, k the k-th class.

        Raises:
            DataError: An image cannot be read, or a tag is no class of the model.
            ValueError: An array is no image, or there are not as many tags as images.
        """
        images = list(listed_images(images))
        masks: list[Tensor | None] = [None] * len(images)
        for number, mask, error, _ in self.stream(images, tags):
            if error is not None:
                raise error
            masks[number] = mask
        return [mask for mask in masks if mask is not None]

    def stream(
        self,
        images: Iterable[GivenImage],
        tags: Iterable[Tags] | None = None,
        *,
        maps: bool = False,
    ) -> Iterator[Labeled]:
        """The masks of any number of images, one after the other as they are ready.

        Other threads read while the network works. Images of equal size are computed together, so
        that the order is not that of the images.

        Args:
            images: As for `label`; taken a few hundred at a time.
            tags: As for `label`.
            maps: Whether to give class probabilities, too.

        Yields:
            Each image's mask, or why it cannot be read.

        Raises:
            DataError: A tag is no class of the model.
            ValueError: An array is no image, or there are not as many tags as images.
        """
        allowed: dict[int, tuple[int, ...] | None] = {}

        def restricted(tags: Iterable[Tags]) -> Iterator[GivenImage]:
            for number, (image, names) in enumerate(zip(listed_images(images), tags, strict=True)):
                allowed[number] = self.allowed(names)
                yield image

        given = listed_images(images) if tags is None else restricted(tags)
        for batch in read_in_batches(
            given,
            self._seen,
            self._most,
            ignore_alpha=self.ignore_alpha,
            channels=self.segmenter.channels,
        ):
            read = []
            for number, full, pixels in batch:
                if isinstance(pixels, FileError):
                    yield Labeled(number, None, pixels)
                else:
                    read.append((number, full, pixels, allowed.pop(number, None)))
            yield from self._labeled(read, maps)

    @torch.inference_mode()
    def scores(self, images: Tensor) -> Tensor:
        """What the network thinks of images of one size, at that size.

        Args:
            images: uint8 [B,3,h,w], or floats in 0..1.

        Returns:
            float32 [B,K+1,h,w] on the device: logits of a single view, the mean of the
            probabilities of several.
        """
        pixels = self._placed(images)
        if self._one_view:
            return self._forward(pixels)
        return multi_scale_probabilities(self._forward, pixels, self.scales, self.mirror)

    @torch.inference_mode()
    def _coarse(self, images: Tensor) -> Tensor:
        """As `scores`, or, where they may be enlarged once for all, on the decoder's grid."""
        if not self._one_view or any(side % self.segmenter.cell for side in images.shape[2:]):
            return self.scores(images)
        with self.inference.autocast():
            return self.segmenter.coarse(self._placed(images))

    @property
    def _one_view(self) -> bool:
        return self.scales == (1.0,) and not self.mirror

    def _placed(self, images: Tensor) -> Tensor:
        pixels = images.to(self.device, memory_format=torch.channels_last)
        return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels

    def _forward(self, pixels: Tensor) -> Tensor:
        with self.inference.autocast():
            scores: Tensor = self.segmenter(pixels)
        return scores.float()

    def allowed(self, tags: Tags) -> tuple[int, ...] | None:
        """The mask indices that tags leave: background and the tags' classes; None: all.

        Raises:
            DataError: A tag is no class of the model.
        """
        if tags is None:
            return None
        tags = [tags] if isinstance(tags, str) else tags
        unknown = sorted(set(tags) - self._index.keys())
        if unknown:
            raise DataError(
                f"the model knows no class {unknown[0]!r}; it knows {listed([*self.class_names])}"
            )
        return (0, *sorted(self._index[name] for name in set(tags)))

    @property
    def settings(self) -> dict[str, object]:
        """What a mask depends on besides the network and the image."""
        return {
            "scales": self.scales,
            "mirror": self.mirror,
            "long_side": self.long_side,
            "tile": self.tile,
            "overlap": self.overlap,
            "ignore_alpha": self.ignore_alpha,
        }

    def _seen(self, full: Size) -> Size:
        """The size in which the network sees an image of this one."""
        if self.long_side is None:
            return max(LEAST_SIDE, full[0]), max(LEAST_SIDE, full[1])
        return network_size(*full, self.long_side, self.segmenter.multiple)

    def _most(self, seen: Size) -> int:
        """How many images of a size make a batch."""
        pixels = seen[0] * seen[1]
        scores = pixels * (len(self.class_names) + 1)
        most = _MAX_PIXELS.get(self.device.type, _MAX_PIXELS_ELSEWHERE)
        return min(self.batch_size, most // pixels, _MAX_SCORES // scores)

    def _labeled(
        self, batch: list[tuple[int, Size, Tensor, tuple[int, ...] | None]], maps: bool
    ) -> Iterator[Labeled]:
        if not batch:
            return
        seen = (batch[0][2].shape[1], batch[0][2].shape[2])
        if self.long_side is None and max(seen) >= self.tile + GRID:
            for number, full, pixels, allowed in batch:
                kept: list[Tensor] | None = [] if maps else None
                mask = self._tiled(pixels, full, allowed, kept)
                yield Labeled(number, mask, maps=_joined(kept, wide=seen[1] > seen[0]))
            return
        scores = self._coarse(torch.stack([pixels for _, _, pixels, _ in batch]))
        for (number, full, _, allowed), one in zip(batch, scores, strict=True):
            mask = best_labels(one, full, allowed).cpu()
            yield Labeled(number, mask, maps=self._maps(one, seen, allowed) if maps else None)

    def _maps(self, scores: Tensor, seen: Size, allowed: tuple[int, ...] | None) -> Tensor:
        found = class_probabilities(scores, logits=self._one_view, allowed=allowed)
        return quartered(found, seen).half().cpu()

    def _tiled(
        self,
        image: Tensor,
        full: Size,
        allowed: tuple[int, ...] | None,
        maps: list[Tensor] | None,
    ) -> Tensor:
        """The mask of an image by tiles, in bands across its shorter side; adds maps of each."""
        wide = image.shape[2] > image.shape[1]
        image = image.mT if wide else image

        def score(tile: Tensor) -> Tensor:
            scores = self.scores((tile.mT if wide else tile)[None])[0]
            return scores.mT if wide else scores

        labels = torch.empty(image.shape[1:], dtype=torch.uint8)
        for top, scores in tiled_scores(score, image, self.tile, self.overlap):
            size = (scores.shape[1], scores.shape[2])
            labels[top : top + size[0]] = best_labels(scores, size, allowed).cpu()
            if maps is not None:
                maps.append(self._maps(scores, size, allowed))
            del scores
        labels = labels.mT.contiguous() if wide else labels
        if tuple(labels.shape) != full:  # an image less than `LEAST_SIDE` pixels wide
            labels = functional.interpolate(labels[None, None], size=full, mode="nearest-exact")[
                0, 0
            ]
        return labels


def _joined(bands: list[Tensor] | None, *, wide: bool) -> Tensor | None:
    """Maps of an image from those of its bands."""
    if bands is None:
        return None
    maps = torch.cat(bands, dim=1)
    return maps.mT.contiguous() if wide else maps


def label_samples(
    labeler: Labeler, samples: Sequence[Sample], *, within_tags: bool = False
) -> Iterator[tuple[Sample, Tensor]]:
    """The mask of each sample, as they are ready.

    Args:
        labeler: The network at work.
        samples: The images.
        within_tags: Whether only background and an image's own tags are possible; the network's
            classes are those that tags count.

    Yields:
        A sample and its mask uint8 [H,W] on the CPU.

    Raises:
        DataError: An image cannot be read.
    """
    names = labeler.class_names
    tags = [[names[tag] for tag in sample.tags] for sample in samples] if within_tags else None
    with kept_memory():
        for labeled in labeler.stream([sample.image for sample in samples], tags):
            if labeled.mask is None:
                raise labeled.error or RuntimeError("a mask is missing")
            yield samples[labeled.number], labeled.mask


def model_folder(path: Path | str) -> Path:
    """The folder of the model that a run made, or the folder itself if it holds one.

    Args:
        path: A run's folder, or a folder with `config.json` and `model.safetensors`.

    Raises:
        RunError: It is neither, or the run has no model yet.
    """
    folder = Path(path)
    run = RunDir(folder)
    if run.is_run:
        return run.stage("segment").path / MODEL
    if all((folder / name).is_file() for name in ("config.json", "model.safetensors")):
        return folder
    raise RunError(
        f"{folder} is neither a run of weakseg nor a model's folder (with config.json and "
        "model.safetensors); give the folder that `weakseg run --out` made"
    )
