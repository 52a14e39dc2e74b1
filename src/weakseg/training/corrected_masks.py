"""How much masks that people corrected count."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ReviewSettings(BaseModel):
    """How masks that people accepted or corrected are learnt.

    Attributes:
        weight: How often an image with such a mask is seen in an epoch of `relate` and `segment`,
            where others are seen once; the number of steps of `segment` stays as it is.
        warm_start: Trainings that corrections cause begin with the networks that are there, for
            this share of their epochs; 0: they begin anew, for all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: int = Field(3, ge=1, le=100, description="times a corrected image is seen in an epoch")
    warm_start: float = Field(
        0.0, ge=0, le=1, description="share of epochs from the last networks on; 0: begin anew"
    )
