"""The kinds of work that a run does, each on a few images, to take its time."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from weakseg.config.run_config import RunConfig
from weakseg.data.images import resized
from weakseg.metrics.sweep import ThresholdSweep
from weakseg.models.amr import AMR
from weakseg.models.irn import RelationNet
from weakseg.models.segmenter import Segmenter
from weakseg.ops.cams import grid_size, label_map
from weakseg.ops.evidence import nearest_words
from weakseg.ops.propagation import spread
from weakseg.ops.seeds import confident_seeds, scaled_crf
from weakseg.ops.tta import multi_scale_probabilities
from weakseg.ops.walk import random_walk
from weakseg.planning.machine_costs import TrainingCost
from weakseg.planning.stopwatch import Stopwatch, bytes_for_gradients
from weakseg.processors import one_thread
from weakseg.stages.cams import MapNetwork
from weakseg.stages.relate import boundaries
from weakseg.stages.surface_words import STAGES, WORDS
from weakseg.training.device import Inference
from weakseg.training.mask_task import MaskTask
from weakseg.training.recalibrate_task import RecalibrateTask
from weakseg.training.relation_task import RelationTask
from weakseg.training.tag_task import TagTask

Size = tuple[int, int]
"""Height and width, in pixels."""

KINDS = 15
"""How many kinds of work are measured by these functions."""


@dataclass(frozen=True)
class Bench:
    """Some images, a network, and what takes the time of what is done with them.

    Attributes:
        watch: Takes the time.
        inference: Where and in which precision.
        config: All settings.
        model: A network with both branches, on the device.
        views: Training views uint8 [B,C,crop,crop].
        whole: Whole images uint8 [B,C,h,w].
    """

    watch: Stopwatch
    inference: Inference
    config: RunConfig
    model: AMR
    views: Tensor
    whole: Tensor

    def trainings(self) -> dict[str, TrainingCost]:
        """Of one view in a step of each training; afterwards the network learns no more."""
        return {name: self._training(task, batch) for name, task, batch in self._tasks()}

    def _tasks(self) -> Iterator[tuple[str, nn.Module, tuple[Tensor, ...]]]:
        model, config, views = self.model, self.config, self.views
        labels = torch.zeros(len(views), *views.shape[-2:], dtype=torch.uint8, device=views.device)
        labels[:, labels.shape[1] // 2 :] = 1
        tags = torch.zeros(len(views), model.classes, device=views.device)
        tags[:, 0] = 1
        yield "tag_training", TagTask(model, config.task), (views, tags)
        # These two take what learns from the network.
        task = RecalibrateTask(model, config.recalibrate)
        yield "recalibration", task, (views, labels, tags)
        net = RelationNet(model.widths, model.strides, displacement=config.relate.displacement)
        yield "relation_training", RelationTask(model, net, config.relate.radius), (views, labels)
        yield "mask_training", MaskTask(self._segmenter(), config.segment.task), (views, labels)

    def _segmenter(self) -> Segmenter:
        config = self.config
        backbone = config.segment.backbone or config.backbone
        return Segmenter(self.model.classes, backbone, config.segment.network, load=False)

    def _training(self, task: nn.Module, batch: tuple[Tensor, ...]) -> TrainingCost:
        task = task.to(self.inference.device).to(memory_format=torch.channels_last).train()
        groups: Any = task.parameter_groups()  # type: ignore[operator]
        optimizer = torch.optim.SGD(groups, lr=1e-9, momentum=0.9)
        after: Callable[[], object] = getattr(task, "after_step", lambda: None)

        def step() -> None:
            with self.inference.autocast():
                loss = task(batch)["loss"]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            after()

        with bytes_for_gradients() as kept:
            step()
        count = len(self.views)
        return TrainingCost(seconds=self.watch.each(step, count), bytes=sum(kept) / count)

    @torch.no_grad()
    def looking(self, tags: int) -> dict[str, float]:
        """Of what networks say of whole images.

        Args:
            tags: Of an image.
        """
        model, some, each = self.model.eval(), self.whole, self.watch.each
        count, device = len(some), some.device
        laid = some.contiguous(memory_format=torch.channels_last)
        pixels = laid.float() / 255
        once = self.config.cams.model_copy(update={"scales": (1.0,), "method": "cam"})
        # The smallest scale is computed exactly, the others in bf16: see `careful_cams`.
        twice = once.model_copy(update={"scales": (_NEXT_TO_NOTHING, 1.0)})
        network = MapNetwork(model, self.inference, [some])
        shown = [range(tags)] * count
        exact = each(lambda: network.maps(some, shown, once), count)
        quick = exact
        if network.quick is not None:
            network.faint = [-math.inf]  # as if no map were faint
            quick = each(lambda: network.maps(some, shown, twice), count)
        features = model.details(pixels)
        map_ = torch.rand(1, *features.shape[-2:], device=device)
        centres = [torch.rand(WORDS, model.widths[k], device=device) for k in STAGES]

        def words() -> None:
            pyramid = model.pyramid(laid)
            for stage, centre in zip(STAGES, centres, strict=True):
                for own in pyramid[stage]:
                    nearest_words(own, centre)

        return {
            "exact_maps": exact,
            "quick_maps": quick,
            "details": each(lambda: model.details(pixels), count),
            "affinity": each(lambda: spread(map_, features[0])),
            "words": each(words, count),
        }

    @torch.no_grad()
    def refining(self, tags: int, crf_size: Size, full: Size) -> dict[str, float]:
        """Of what becomes of the maps of an image.

        Args:
            tags: How many maps it has.
            crf_size: In which the CRF sees it.
            full: Its own.
        """
        config, some, each = self.config, self.whole, self.watch.each
        grid = grid_size(some.shape[-2], some.shape[-1])
        net = RelationNet(self.model.widths, self.model.strides).to(some.device).eval()
        segmenter = self._segmenter().to(some.device).eval()
        segmenter = segmenter.to(memory_format=torch.channels_last)
        maps, found = torch.rand(tags, *grid, device=some.device), torch.rand(grid).to(some.device)
        pair = torch.cat([some, some.flip(-1)]).contiguous(memory_format=torch.channels_last)
        walk = config.walk.model_dump(include={"radius", "beta", "steps"})

        def boundary() -> None:
            with self.inference.autocast():
                features = self.model.pyramid(pair)
            boundaries([x.float() for x in features], net, grid)

        def label() -> None:
            with self.inference.autocast():
                multi_scale_probabilities(segmenter, some.float() / 255, (1.0,), True)

        return {
            "boundary": each(boundary, len(some)),
            "walk": each(lambda: random_walk(maps, found, **walk)),
            "label": each(label, len(some)),
            **self._alone(maps.cpu(), crf_size, full),
        }

    @one_thread()
    def _alone(self, maps: Tensor, crf_size: Size, full: Size) -> dict[str, float]:
        """What one process does with one image."""
        each, classes = self.watch.each, torch.arange(len(maps))
        image = resized(self.whole[0].cpu(), crf_size)
        image = image[:3] if len(image) > 2 else image[:1].expand(3, -1, -1)
        crf = scaled_crf(self.config.seeds.crf, max(crf_size))
        careful, generous = (label_map(maps, classes, score, crf_size) for score in (0.7, 0.3))
        truth = label_map(maps, classes, 0.5, full)
        sweep = ThresholdSweep(self.model.classes, torch.linspace(0, 1, 101))

        def mask() -> None:
            labels = label_map(maps, classes, 0.5, full)
            Image.fromarray(labels.numpy()).save(io.BytesIO(), "PNG")

        return {
            "crf": each(lambda: confident_seeds(image, careful, generous, len(maps) + 1, crf)),
            "mask": each(mask),
            "score": each(lambda: sweep.update(maps, classes, truth)),
        }


_NEXT_TO_NOTHING = 0.1
"""A scale at which maps cost a hundredth."""
