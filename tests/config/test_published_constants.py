"""Every constant of the published method that has a setting is what the paper's presets run with."""

import pytest

from weakseg.config.run_config import PRESET_SPLITS, PRESETS, RunConfig, load_config

CONSTANTS = {
    # The two branches (AMR, AAAI 2022): ResNet-50 at stride 16, its first convolution and all norms
    # frozen, modulation as in the released code, normal density, reduction 16.
    "backbone.name": "resnet50.tv_in1k",
    "backbone.weights": "auto",
    "backbone.output_stride": 16,
    "backbone.freeze_stages": 0,
    "backbone.freeze_norms": True,
    "amr.compensation": True,
    "amr.supervision": "maps",
    "amr.shared_stages": 0,
    "amr.placement": "block",
    "amr.amplitude": "density",
    "amr.statistics": "per_sample",
    "amr.reduction": 16,
    "amr.gated": False,
    # Losses: λ = 0.05, raw maps, both branches refine each other.
    "recalibrate.cps_weight": 0.05,
    "recalibrate.cps_maps": "raw",
    "recalibrate.mutual": True,
    # SGD, momentum 0.9, lr 0.01, new layers and compensation branch ×10, weight decay 1e-4,
    # polynomial 0.9, batches of 16, 5 to 8 epochs.
    "task.new_layers_lr": 10.0,
    "recalibrate.new_layers_lr": 10.0,
    "recalibrate.compensation_lr": 10.0,
    **{
        f"{fit}.{name}": value
        for fit in ("fit", "recalibrate.fit")
        for name, value in {
            "lr": 0.01,
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "power": 0.9,
            "batch_size": 16,
            "warmup": 0.0,
            "clip": 0.0,
        }.items()
    },
    "fit.epochs": 5,
    "recalibrate.fit.epochs": 8,
    "augment.long_side": [320, 640],
    "augment.flip": 0.5,
    "augment.crop": 512,
    # Maps over four scales and the mirror, ξ = 0.5; nothing spreads them.
    "cams.method": "cam",
    "cams.scales": [0.5, 1.0, 1.5, 2.0],
    "cams.mirror": True,
    "cams.xi": 0.5,
    "spread.prototypes": False,
    "spread.spreading": False,
    "evidence.images": 0,
    # Seeds (IRN, CVPR 2019, without climbing) and their dense CRF.
    "seeds.foreground": 0.30,
    "seeds.background": 0.05,
    "seeds.crf.iterations": 10,
    "seeds.crf.gaussian_sxy": 3.0,
    "seeds.crf.gaussian_weight": 3.0,
    "seeds.crf.bilateral_sxy": 50.0,
    "seeds.crf.bilateral_srgb": 5.0,
    "seeds.crf.bilateral_weight": 10.0,
    "seeds.crf.label_confidence": 0.7,
    # The relation network: radius 10, SGD 0.1, polynomial, 3 epochs, crop 512.
    "relate.radius": 10,
    "relate.displacement": True,
    "relate.fit.lr": 0.1,
    "relate.fit.momentum": 0.9,
    "relate.fit.power": 0.9,
    "relate.fit.weight_decay": 1e-4,
    "relate.fit.epochs": 3,
    "relate.fit.batch_size": 32,
    "relate.fit.warmup": 0.0,
    "relate.fit.clip": 0.0,
    "relate.augment.crop": 512,
    "relate.augment.flip": 0.5,
    "relate.augment.color": 0.0,
    # The walk: β = 10, radius 5, maps to the 1.5, 256 steps, background score 0.25, no CRF behind it.
    "walk.beta": 10.0,
    "walk.radius": 5,
    "walk.power": 1.5,
    "walk.steps": 256,
    "walk.background": False,
    "refine.kind": "irn",
    "refine.maps": "weighted",
    "refine.threshold": 0.25,
    # DeepLab-v2 (TPAMI 2018) on ResNet-101 at stride 8.
    "segment.backbone.name": "resnet101.tv_in1k",
    "segment.backbone.weights": "auto",
    "segment.backbone.output_stride": 8,
    "segment.backbone.freeze_stages": 0,
    "segment.network.decoder": "deeplabv2",
    "segment.network.dropout": 0.0,
    "segment.task.decoder_lr": 10.0,
    "segment.task.ema": 0.0,
    "segment.task.blur": 0,
    "segment.task.label_smoothing": 0.0,
    "segment.task.balance": 0.0,
    "segment.fit.lr": 2.5e-4,
    "segment.fit.momentum": 0.9,
    "segment.fit.power": 0.9,
    "segment.fit.weight_decay": 5e-4,
    "segment.fit.batch_size": 10,
    "segment.fit.steps": 30_000,
    "segment.fit.warmup": 0.0,
    "segment.fit.clip": 0.0,
    "segment.augment.crop": 321,
    "segment.augment.flip": 0.5,
    "segment.augment.color": 0.0,
    "segment.rounds": 1,
    "segment.held_out": 0.0,
    "segment.truth_masks": False,
    "predict.scales": [0.5, 0.75, 1.0, 1.25, 1.5],
    "predict.mirror": True,
    "predict.crf.iterations": 10,
    "predict.crf.gaussian_sxy": 1.0,
    "predict.crf.gaussian_weight": 3.0,
    "predict.crf.bilateral_sxy": 67.0,
    "predict.crf.bilateral_srgb": 3.0,
    "predict.crf.bilateral_weight": 4.0,
}

SIZES = {
    # Images as they are; scales 0.5 to 1.5 of them in training.
    "cams.long_side": 1.0,
    "seeds.long_side": 1.0,
    "segment.long_side": 1.0,
    "relate.augment.long_side": [0.5, 1.5],
    "segment.augment.long_side": [0.5, 1.5],
}

LONG_SIDES = {"paper-voc": 500, "paper-coco": 640}


@pytest.mark.parametrize("preset", LONG_SIDES)
def test_the_papers_constants(preset):
    settings = load_config(preset).sections(tuple(RunConfig.model_fields))
    assert {key: settings.get(key, "not set") for key in CONSTANTS} == CONSTANTS
    for key, share in SIZES.items():
        shares = share if isinstance(share, list) else [share]
        pixels = [round(part * LONG_SIDES[preset]) for part in shares]
        assert settings[key] == (pixels if isinstance(share, list) else pixels[0]), key


@pytest.mark.parametrize("preset", LONG_SIDES)
def test_nothing_that_the_presets_set_is_left_out_of_the_list(preset):
    def leaves(values, prefix=""):
        for name, value in values.items():
            if isinstance(value, dict):
                yield from leaves(value, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}"

    # Epochs of segmentation are only enough for its steps; gradient descent is in no fingerprint.
    unlisted = set(leaves(PRESETS[preset])) - CONSTANTS.keys() - SIZES.keys()
    assert unlisted == {"segment.fit.epochs", "segment.fit.optimizer"}
    assert load_config(preset).segment.fit.optimizer == "sgd"


def test_the_epochs_of_segmentation_are_enough_for_its_steps():
    fit = load_config("paper-voc").segment.fit
    train_aug = 10_582
    assert (fit.epochs - 1) * -(-train_aug // fit.batch_size) < fit.steps
    assert fit.epochs * -(-train_aug // fit.batch_size) >= fit.steps


def test_splits_are_those_of_presets_made_for_a_data_set():
    assert PRESET_SPLITS.keys() == LONG_SIDES.keys()
    assert PRESET_SPLITS["paper-voc"] == ("train_aug", "val")
    assert PRESET_SPLITS["paper-coco"] == ("train2014", "val2014")


def test_what_changes_nothing_unless_set_is_in_a_fingerprint_only_then():
    plain = load_config("fast").sections(("dry_run", "fit", "segment", "predict"))
    assert not {"dry_run", "fit.steps", "segment.fit.steps", "predict.crf"} & plain.keys()
    texts = ["dry_run=3", "fit.steps=4", "predict.crf.iterations=5"]
    found = load_config("fast", overrides=texts).sections(("dry_run", "fit", "predict"))
    assert (found["dry_run"], found["fit.steps"], found["predict.crf.iterations"]) == (3, 4, 5)
