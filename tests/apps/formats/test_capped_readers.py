"""What libraries read of exports that cannot be installed beside weakseg's own packages.

Datumaro caps Pillow and label-studio-sdk numpy: `make readers` gives them an environment of their own
and runs this file.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
PYTHON = Path(os.environ.get("WEAKSEG_READERS", ROOT / ".venv-readers" / "bin" / "python"))

pytestmark = pytest.mark.skipif(
    not PYTHON.exists() and "WEAKSEG_READERS" not in os.environ,
    reason="Datumaro and label-studio-sdk are not installed; run `make readers`",
)

DATUMARO = """
import json, sys
import numpy as np
import datumaro
folder, kind, out = sys.argv[1:]
found = datumaro.Dataset.import_from(folder, kind)
names = [label.name for label in found.categories()[datumaro.AnnotationType.label]]
shapes, boxes = {}, {}
for item in found:
    for one in item.annotations:
        if one.type is datumaro.AnnotationType.mask:
            mask = np.asarray(one.image).astype(bool)
            shapes.setdefault(item.id, []).append((names[one.label], mask))
        elif one.type is datumaro.AnnotationType.bbox:
            boxes.setdefault(item.id, []).append(names[one.label])
np.savez(out, **{f"{key}|{name}": mask for key, pairs in shapes.items() for name, mask in pairs})
print(json.dumps({"names": names, "ids": sorted(item.id for item in found), "boxes": boxes}))
"""

STUDIO = """
import json, sys
import numpy as np
from label_studio_sdk.converter.brush import decode_rle
masks = {}
for task in json.load(open(sys.argv[1], encoding="utf-8")):
    for prediction in task["predictions"]:
        for region in prediction["result"]:
            value = region["value"]
            size = region["original_height"], region["original_width"], 4
            pixels = decode_rle(value["rle"]).reshape(size)
            masks[task["data"]["id"] + "|" + value["brushlabels"][0]] = pixels[..., 3] > 0
np.savez(sys.argv[2], **masks)
"""


def read(script, *arguments):
    command = [str(PYTHON), "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def check(finished, masks):
    """Whether masks `<id>|<name>` are exactly the run's."""
    names = ("background", *finished.classes)
    for key in finished.keys:
        labels = finished.labels(key)
        found = np.zeros_like(labels)
        for name in masks.files:
            if name.startswith(f"{key}|"):
                found[masks[name]] = names.index(name.split("|")[1])
        np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize("kind", ["voc", "coco_instances", "cvat"])
def test_datumaro(finished, kind, tmp_path):
    folder = tmp_path / "out"
    if kind == "voc":
        finished.export("voc")
    elif kind == "coco_instances":
        finished.export("coco", "out/annotations/instances_train.json")
        finished.photos.rename(folder / "images")
    else:
        finished.export("cvat")
        finished.photos.rename(folder / "images")
    told = json.loads(read(DATUMARO, folder, kind, tmp_path / "masks.npz").splitlines()[-1])
    assert told["ids"] == finished.keys
    expected = ["background", *finished.classes] if kind == "voc" else [*finished.classes]
    assert told["names"] == expected
    check(finished, np.load(tmp_path / "masks.npz"))
    if kind == "voc":
        for key in finished.keys:
            present = sorted(set(finished.labels(key).ravel().tolist()) - {0})
            assert told["boxes"].get(key, []) == [finished.classes[i - 1] for i in present]


def test_label_studios_decoder(finished, tmp_path):
    tasks = finished.export("label-studio").path / "tasks.json"
    read(STUDIO, tasks, tmp_path / "masks.npz")
    check(finished, np.load(tmp_path / "masks.npz"))
