"""What a type checker knows of calls: `make types` reads this file, nothing runs it."""

from typing import assert_type

from torch import Tensor

import weakseg
from weakseg.models.amr import AMROutput
from weakseg.pipeline import PipelineSummary


def calls(images: Tensor, model: weakseg.AMR, segmenter: weakseg.Segmenter) -> None:
    output = model(images)
    assert_type(output, AMROutput)
    assert_type(output.spotlight.cams, Tensor)
    assert_type(segmenter(images), Tensor)
    assert_type(weakseg.AttentionModulation(64)(images), Tensor)
    assert_type(weakseg.random_walk(images[0], images[0, 0]), Tensor)
    assert_type(weakseg.dense_crf(images[0], images[0]), Tensor)
    assert_type(weakseg.class_activation_maps(model, images), dict[str, Tensor])
    assert_type(weakseg.Labeler.from_run("run").label(["a.jpg"]), list[Tensor])
    assert_type(weakseg.run("photos", "run"), PipelineSummary)
    for number, mask, _, _ in weakseg.Labeler(segmenter).stream(["a.jpg"]):
        assert_type(number, int)
        assert_type(mask, Tensor | None)
