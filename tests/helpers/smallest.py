"""The smallest run that has every stage: a few steps on small pictures, on the CPU."""

LEAST = ("epochs=1", "batch_size=4", "workers=0")

SMALLEST = (
    *(
        f"{part}fit.{each}"
        for part in ("", "recalibrate.", "relate.", "segment.")
        for each in LEAST
    ),
    *(f"{part}augment.crop=64" for part in ("", "relate.", "segment.")),
    *(f"{part}augment.long_side=[64, 80]" for part in ("", "relate.")),
    "segment.augment.long_side=[64, 96]",
    "segment.network.channels=32",
    "segment.long_side=96",
    "cams.long_side=96",
    "cams.scales=[1.0]",
    "spread.scales=[1.0]",
    "prototypes.clusters=2",
    "device=cpu",
)

PLAIN = (
    "backbone.name=resnet18",
    "backbone.weights=none",
    "amr.compensation=false",
    "spread.prototypes=false",
    "spread.spreading=false",
)
"""Bare maps of a small network without weights: what comes after them is looked at."""
