"""GeoJSON: a file per image, its classes as multipolygons in pixels, as QuPath reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from weakseg import __version__
from weakseg.apps.formats.labelled import Job, Labelled
from weakseg.data.masks import voc_palette
from weakseg.data.polygons import mask_polygons

_COORDINATES = "pixels; x to the right, y down; 0, 0 is the upper left corner of the image"


def write(images: Iterable[Labelled], job: Job, folder: Path) -> None:
    """Writes `<id>.geojson` for each image: a FeatureCollection with one Feature a class.

    A Feature is a MultiPolygon of connected regions with their holes, in pixels along the edges of
    pixels; a foreign member `weakseg` says so, for GeoJSON itself means degrees and y up. Its
    properties are QuPath's `classification` (name, colour) and `objectType`, the index, and the
    confidence if it is known.

    Args:
        images: What to write; taken one at a time.
        job: The classes.
        folder: Where to write; is there.
    """
    for image in images:
        height, width = image.size
        about = {
            "version": __version__,
            "coordinates": _COORDINATES,
            "image": image.name,
            "width": width,
            "height": height,
        }
        record = {
            "type": "FeatureCollection",
            "weakseg": about,
            "features": list(_features(image, job)),
        }
        path = folder / f"{image.sample.id}.geojson"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"
        path.write_text(text, encoding="utf-8")


def _features(image: Labelled, job: Job) -> Iterator[dict[str, Any]]:
    colours = voc_palette().tolist()
    for index, mask, confidence in image.masks():
        polygons = [
            [[*ring.astype(int).tolist(), ring[0].astype(int).tolist()] for ring in polygon]
            for polygon in mask_polygons(mask)
        ]
        name = job.classes[index - 1]
        yield {
            "type": "Feature",
            "geometry": {"type": "MultiPolygon", "coordinates": polygons},
            "properties": {
                "objectType": "annotation",
                "classification": {"name": name, "color": colours[index]},
                "index": index,
                **({} if confidence is None else {"confidence": confidence}),
            },
        }
