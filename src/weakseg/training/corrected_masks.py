"""How much masks that people corrected count."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ReviewSettings(BaseModel):
    """How masks that people accepted or corrected are learnt.

    Attributes:
        weight: How often an image with such a mask is seen in an epoch of `relate` and `segment`,
            where others are seen once; the number of steps of `segment` stays as it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: int = Field(3, ge=1, le=100, description="times a corrected image is seen in an epoch")
