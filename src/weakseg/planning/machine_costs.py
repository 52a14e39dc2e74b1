"""What this machine needs for each kind of work, in seconds an image: what is measured."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class TrainingCost(BaseModel):
    """What a training takes for one view."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float = Field(ge=0, description="A view's share of a step.")
    bytes: float = Field(ge=0, description="What is kept of a view until its gradient is known.")


class MachineCosts(BaseModel):
    """Costs of one image or view at the sizes they were measured at; others follow by pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str = Field(description="cpu, cuda or mps.")
    processors: int = Field(ge=1, description="That this process may use.")
    free_bytes: int | None = Field(None, description="Memory that can be had; None: not known.")
    bf16: bool = Field(description="Whether networks compute in bf16.")

    crop: int = Field(ge=1, description="Side of the views, in pixels.")
    pixels: float = Field(gt=0, description="Of a whole image as the networks see it.")
    crf_pixels: float = Field(gt=0, description="Of an image as the CRF sees it.")
    tags: int = Field(ge=1, description="Tags of the image whose maps walked.")

    read_view: float = Field(ge=0, description="Seconds to read an image and cut a view.")
    read_whole: float = Field(ge=0, description="Seconds to read an image for the networks.")
    tag_training: TrainingCost = Field(description="Of classify.")
    recalibration: TrainingCost = Field(description="Of recalibrate.")
    relation_training: TrainingCost = Field(description="Of relate.")
    mask_training: TrainingCost = Field(description="Of segment.")
    exact_maps: float = Field(ge=0, description="Seconds for maps of an image and its mirror.")
    quick_maps: float = Field(ge=0, description="The same in bf16, where there is that.")
    details: float = Field(ge=0, description="Seconds for features to spread along.")
    affinity: float = Field(ge=0, description="Seconds to spread maps along them.")
    words: float = Field(ge=0, description="Seconds for the visual words of an image.")
    boundary: float = Field(ge=0, description="Seconds for an image's boundaries.")
    walk: float = Field(ge=0, description="Seconds for the walk of an image's maps.")
    crf: float = Field(ge=0, description="Seconds for an image's seeds.")
    mask: float = Field(ge=0, description="Seconds to part and write a mask of the full size.")
    score: float = Field(ge=0, description="Seconds to score one kind of maps at all thresholds.")
    label: float = Field(ge=0, description="Seconds for the segmentation network on an image.")
    forward_bytes: float = Field(ge=0, description="What a pixel takes in its widest layer.")
    base_bytes: float = Field(ge=0, description="What the process holds before it works.")
    hindered: float = Field(1.0, ge=1, description="How much longer all took, for others worked.")

    def training_speed(self) -> float:
        """Views a second that the classifier learns from."""
        return 1 / max(self.tag_training.seconds, 1e-9)
