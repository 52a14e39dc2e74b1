"""All settings of a run, composed of their owners' own, and the presets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from weakseg.config.layers import Layer, assemble, assignment_layer, read_layer, to_yaml
from weakseg.data.transforms import AugmentSettings
from weakseg.metrics.confusion import EvaluateSettings
from weakseg.metrics.verdicts import VerifySettings
from weakseg.models.amr import AMRSettings
from weakseg.models.backbones import BackboneSettings
from weakseg.ops.cams import CamSettings
from weakseg.ops.evidence import EvidenceSettings
from weakseg.ops.propagation import SpreadSettings
from weakseg.ops.prototypes import PrototypeSettings
from weakseg.ops.refinement import RefineSettings
from weakseg.ops.seeds import SeedSettings
from weakseg.ops.tta import ValidatePredictSettings
from weakseg.ops.walk import WalkSettings
from weakseg.training.corrected_masks import ReviewSettings
from weakseg.training.fit import FitSettings
from weakseg.training.mask_task import SegmentSettings
from weakseg.training.recalibrate_task import RecalibrateSettings
from weakseg.training.relation_task import RelateSettings
from weakseg.training.tag_task import TagTaskSettings
from weakseg.types import ConfigError

ENVIRONMENT = frozenset(
    {
        "device",
        "precision",
        "cams.batch_size",
        *(
            f"{fit}.{name}"
            for fit in ("fit", "recalibrate.fit", "relate.fit", "segment.fit")
            for name in ("checkpoint_seconds", "workers")
        ),
    }
)
"""Settings that say where and how fast to compute, not what: they belong to no fingerprint, so that
a run begun on one machine goes on on another."""


_NEUTRAL = {"dry_run": None, "least_steps": None, "steps": None, "crf": None, "optimizer": "sgd"}
"""Values with which a setting changes nothing. Only others belong to a fingerprint: runs of before
there were such settings go on."""

_NONE = object()


class RunConfig(BaseModel):
    """All settings of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, lt=2**31, description="of every random choice")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="where to compute; auto: cuda, else mps, else cpu"
    )
    dry_run: int | None = Field(
        None, ge=1, description="every training ends after so many steps, to try a run; null: never"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the device has instructions for it, else fp32"
    )
    backbone: BackboneSettings = Field(
        default_factory=BackboneSettings, description="the pretrained network"
    )
    amr: AMRSettings = Field(
        default_factory=AMRSettings, description="its spotlight and compensation branches"
    )
    task: TagTaskSettings = Field(
        default_factory=TagTaskSettings, description="what classification learns from"
    )
    fit: FitSettings = Field(default_factory=FitSettings, description="how classification learns")
    augment: AugmentSettings = Field(
        default_factory=AugmentSettings, description="how images are varied in training"
    )
    cams: CamSettings = Field(
        default_factory=CamSettings, description="how class activation maps are taken"
    )
    spread: SpreadSettings = Field(
        default_factory=SpreadSettings, description="how maps get better without training"
    )
    prototypes: PrototypeSettings = Field(
        default_factory=PrototypeSettings, description="how local prototypes are found"
    )
    recalibrate: RecalibrateSettings = Field(
        default_factory=RecalibrateSettings,
        description="how the compensation branch learns from the spotlight",
    )
    evidence: EvidenceSettings = Field(
        default_factory=EvidenceSettings,
        description="how maps are weighed by what occurs without the tag, too",
    )
    seeds: SeedSettings = Field(
        default_factory=SeedSettings, description="how maps become confident seeds"
    )
    relate: RelateSettings = Field(
        default_factory=RelateSettings, description="how boundaries are learnt from seeds"
    )
    walk: WalkSettings = Field(
        default_factory=WalkSettings, description="how maps walk up to the boundaries"
    )
    refine: RefineSettings = Field(
        default_factory=RefineSettings, description="how maps become masks"
    )
    verify: VerifySettings = Field(
        default_factory=VerifySettings, description="how the run judges its masks without truth"
    )
    segment: SegmentSettings = Field(
        default_factory=SegmentSettings, description="the segmentation network"
    )
    review: ReviewSettings = Field(
        default_factory=ReviewSettings, description="how masks that people corrected are learnt"
    )
    predict: ValidatePredictSettings = Field(
        default_factory=ValidatePredictSettings, description="how it predicts the validation images"
    )
    evaluate: EvaluateSettings = Field(
        default_factory=EvaluateSettings, description="what is scored where truth exists"
    )

    def to_yaml(self) -> str:
        """Every setting as YAML with its description; `load_config(file=…)` reads it back."""
        return to_yaml(self)

    def sections(self, names: Sequence[str]) -> dict[str, Any]:
        """Sections, or single settings as `refine.maps`, as plain values, for a fingerprint.

        What belongs to `ENVIRONMENT` is left out, and what changes nothing unless it is set.
        """
        everything = _flat(self.model_dump(mode="json"))
        return {
            key: value
            for key, value in everything.items()
            if key not in ENVIRONMENT
            and value != _NEUTRAL.get(key.rpartition(".")[2], _NONE)
            and any(key == name or key.startswith(f"{name}.") for name in names)
        }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _published(long_side: int) -> Mapping[str, object]:
    """AMR's experiment (AAAI 2022) with IRN (CVPR 2019) and DeepLab-v2 (TPAMI 2018), no climbing.

    Args:
        long_side: Of the data set's images, in pixels: they are looked at as they are.
    """
    half_to_one_and_a_half = [long_side // 2, long_side * 3 // 2]
    return {
        "backbone": {"name": "resnet50.tv_in1k", "freeze_stages": 0},
        "amr": {
            "supervision": "maps",
            "shared_stages": 0,
            "placement": "block",
            "amplitude": "density",
            "gated": False,
        },
        "fit": {"epochs": 5, "lr": 0.01, "warmup": 0.0, "clip": 0.0},
        "recalibrate": {
            "cps_maps": "raw",
            "compensation_lr": 10.0,
            "fit": {"epochs": 8, "warmup": 0.0, "clip": 0.0},
        },
        "augment": {"crop": 512, "long_side": [320, 640]},
        "cams": {"long_side": long_side, "scales": [0.5, 1.0, 1.5, 2.0]},
        "spread": {"prototypes": False, "spreading": False},
        "evidence": {"images": 0},
        "seeds": {"foreground": 0.3, "background": 0.05, "long_side": long_side},
        "relate": {
            "displacement": True,
            "fit": {"batch_size": 32, "clip": 0.0},
            "augment": {"crop": 512, "long_side": half_to_one_and_a_half},
        },
        "walk": {"background": False},
        "refine": {"kind": "irn", "threshold": 0.25},
        "segment": {
            "backbone": {"name": "resnet101.tv_in1k", "output_stride": 8, "freeze_stages": 0},
            "network": {"decoder": "deeplabv2", "dropout": 0.0},
            "task": {"ema": 0.0, "balance": 0.0},
            "fit": {
                "steps": 30_000,
                "epochs": 29,
                "batch_size": 10,
                "optimizer": "sgd",
                "lr": 2.5e-4,
                "weight_decay": 5e-4,
                "warmup": 0.0,
                "clip": 0.0,
            },
            "augment": {"crop": 321, "long_side": half_to_one_and_a_half, "color": 0.0},
            "long_side": long_side,
            "held_out": 0.0,
        },
        "predict": {
            "scales": [0.5, 0.75, 1.0, 1.25, 1.5],
            "crf": {
                "gaussian_sxy": 1.0,
                "gaussian_weight": 3.0,
                "bilateral_sxy": 67.0,
                "bilateral_srgb": 3.0,
                "bilateral_weight": 4.0,
            },
        },
    }


PRESETS: Mapping[str, Mapping[str, object]] = {
    "fast": {
        "fit": {"epochs": 5},
        "augment": {"crop": 256, "long_side": [256, 448]},
        "cams": {"long_side": 448},
        "relate": {"augment": {"crop": 256, "long_side": [256, 448]}},
        "refine": {"kind": "irn"},
        "segment": {
            "fit": {"epochs": 8},
            "augment": {"crop": 256, "long_side": [200, 800]},
            "long_side": 416,
        },
    },
    "standard": {
        "fit": {"epochs": 6, "accumulate": 2},
        "recalibrate": {"fit": {"accumulate": 2}},
        "augment": {"crop": 288, "long_side": [288, 480]},
    },
    "paper-voc": _published(500),
    "paper-coco": _published(640),
    "demo": {
        "fit": {"epochs": 9, "batch_size": 8, "lr": 0.01},
        "recalibrate": {"fit": {"epochs": 4, "batch_size": 8}},
        "augment": {"crop": 160, "long_side": [160, 288]},
        "cams": {"long_side": 256, "scales": [1.0]},
        "seeds": {"long_side": 256},
        "relate": {
            "fit": {"epochs": 6, "batch_size": 8},
            "augment": {"crop": 160, "long_side": [160, 320]},
        },
        "refine": {"kind": "irn"},
        "segment": {
            "fit": {"epochs": 8},
            "augment": {"crop": 160, "long_side": [160, 320]},
            "long_side": 256,
        },
    },
}
"""What each preset changes of the defaults."""


class Splits(NamedTuple):
    """Names of a source's splits.

    Attributes:
        train: What is learnt from.
        val: What the segmentation network is tried on.
    """

    train: str
    val: str


PRESET_SPLITS: Mapping[str, Splits] = {
    "paper-voc": Splits("train_aug", "val"),
    "paper-coco": Splits("train2014", "val2014"),
}
"""The splits of presets that are made for a data set; `split` and `val` of a run come before."""


def load_config(
    preset: str = "standard", file: Path | str | None = None, overrides: Sequence[str] = ()
) -> RunConfig:
    """Lays a preset, a file and overrides over the defaults, the later over the earlier.

    Args:
        preset: `fast`, `standard`, `paper-voc`, `paper-coco` or `demo`.
        file: A YAML file of settings; a run's `config.yaml` is one.
        overrides: Single settings, as `fit.epochs=5`; the values are YAML.

    Raises:
        ConfigError: The preset or a key is unknown, a value of the wrong kind, or the file
            unreadable.

    Example:
        >>> load_config("fast", overrides=["seed=7"]).seed
        7
    """
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
    layers = [Layer(PRESETS[preset], f"preset {preset}")]
    if file is not None:
        layers.append(read_layer(Path(file)))
    layers += [assignment_layer(text) for text in overrides]
    return assemble(RunConfig, layers)
