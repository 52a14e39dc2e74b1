"""Measures what this machine needs for each kind of work, on a few of the images."""

from __future__ import annotations

from collections.abc import Callable

import torch

from weakseg.config.run_config import RunConfig
from weakseg.data.datasets import TaggedViews
from weakseg.data.images import read_sample, resized
from weakseg.models.amr import AMR
from weakseg.ops.cams import network_size, working_size
from weakseg.planning.data_facts import DataFacts, evenly
from weakseg.planning.machine_costs import MachineCosts
from weakseg.planning.stopwatch import Stopwatch, held_bytes, widest_layer
from weakseg.planning.work_samples import KINDS, Bench
from weakseg.processors import available_processors, free_memory, one_thread
from weakseg.training.device import Inference
from weakseg.training.memory import kept_memory
from weakseg.types import Catalog

MEASURED_SECONDS = 24.0
"""About how long all measurements together may take, in seconds; where that does not suffice, what
is left is done once."""

MEASUREMENTS = KINDS + 2

_IMAGES = 2
"""Images that are read and looked at, evenly chosen."""

_VIEWS = 8
"""Views of them in a step: that the change of the weights costs each as little as in a training."""


@kept_memory()
def measured_costs(
    catalog: Catalog,
    facts: DataFacts,
    config: RunConfig,
    *,
    seconds: float = MEASURED_SECONDS,
    advance: Callable[[], object] = lambda: None,
) -> MachineCosts:
    """Does each kind of work of a run with some images, and takes the time.

    Args:
        catalog: The samples.
        facts: What the data are like.
        config: All settings; their sizes are those measured at.
        seconds: About how long it may take in all.
        advance: Called after each of `MEASUREMENTS`.

    Raises:
        ConfigError: This machine has no such device, or the backbone cannot be used.
        FileError: An image cannot be read.
    """
    inference = Inference(config.device, config.precision)
    watch = Stopwatch(inference.device, seconds, MEASUREMENTS, advance)
    samples, channels = evenly(catalog.samples, _IMAGES), config.backbone.in_chans
    count, some = len(samples), Catalog(catalog.classes, tuple(samples))
    torch.manual_seed(config.seed)
    both = config.amr.model_copy(update={"compensation": True})
    model = AMR(facts.classes, config.backbone, both)
    model.start_compensation()
    model.to(inference.device).to(memory_format=torch.channels_last)
    full = facts.short_side, facts.long_side
    size = network_size(*full, config.cams.long_side, model.cell)
    views = TaggedViews(some, config.augment, config.seed, channels=channels)

    def whole() -> list[torch.Tensor]:
        read = (read_sample(s, max_side=max(size), channels=channels) for s in samples)
        return [resized(image, size) for image in read]

    bench = Bench(
        watch,
        inference,
        config,
        model,
        torch.stack([views[k // count, k % count][0] for k in range(_VIEWS)]).to(inference.device),
        torch.stack(whole()).to(inference.device),
    )
    base = held_bytes()
    trained = bench.trainings()
    model.eval()
    with torch.no_grad():
        widest = widest_layer(model, lambda: model(bench.whole[:1]))
    tags = min(facts.classes, max(1, round(facts.tags / max(1, facts.images - facts.untagged))))
    crf_size = working_size(*full, min(config.seeds.long_side, facts.long_side))
    with one_thread():
        reading = {
            "read_view": watch.each(lambda: [views[0, place] for place in range(count)], count),
            "read_whole": watch.each(whole, count),
        }
    found = MachineCosts(
        device=inference.device.type,
        processors=available_processors(),
        free_bytes=_free_bytes(inference.device),
        bf16=inference.bf16,
        crop=config.augment.crop,
        pixels=size[0] * size[1],
        crf_pixels=crf_size[0] * crf_size[1],
        tags=tags,
        forward_bytes=widest / (size[0] * size[1]),
        base_bytes=base,
        **trained,
        **reading,
        **bench.looking(tags),
        **bench.refining(tags, crf_size, full),
    )
    hindered = max(1.0, watch.clock / max(watch.free, 1e-9))
    return found.model_copy(update={"hindered": hindered})


def _free_bytes(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return free_memory()
