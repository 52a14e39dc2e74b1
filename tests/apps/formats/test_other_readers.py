"""What other libraries read of exports: supervision and torchvision."""

import numpy as np
import supervision
from torchvision.datasets import VOCDetection, VOCSegmentation

FLAT = ("a", "b", "d")  # neither library looks below the image folder


def joined(detections, size):
    labels = np.zeros(size, np.uint8)
    for mask, index in zip(detections.mask, detections.class_id, strict=True):
        labels[mask] = index + 1
    return labels


def grown(mask):
    """A mask and the pixels to the right of and below its own."""
    padded = np.pad(mask, ((1, 0), (1, 0)))
    return padded[1:, 1:] | padded[:-1, 1:] | padded[1:, :-1] | padded[:-1, :-1]


def test_supervision_reads_coco(finished):
    out = finished.export("coco", "instances.json").path
    found = supervision.DetectionDataset.from_coco(
        images_directory_path=str(finished.photos), annotations_path=str(out), force_masks=True
    )
    assert tuple(found.classes) == finished.classes
    for path, _, detections in found:
        key = path.removeprefix(f"{finished.photos}/").removesuffix(".jpg")
        labels = finished.labels(key)
        if not len(detections):
            assert not labels.any()
            continue
        np.testing.assert_array_equal(joined(detections, labels.shape), labels)


def test_supervision_reads_yolo(finished):
    out = finished.export("yolo-seg").path
    found = supervision.DetectionDataset.from_yolo(
        images_directory_path=str(out / "images" / "train"),
        annotations_directory_path=str(out / "labels" / "train"),
        data_yaml_path=str(out / "data.yaml"),
        force_masks=True,
    )
    assert tuple(found.classes) == finished.classes
    assert len(found) == len(FLAT)
    for path, image, detections in found:
        labels = finished.labels(path.removesuffix(".jpg").rsplit("/", 1)[1])
        assert image.shape[:2] == labels.shape
        for index in range(1, 4):
            # It draws the line, too, which lies between pixels.
            mask, drawn = labels == index, np.zeros(labels.shape, bool)
            if len(detections):
                drawn = detections.mask[detections.class_id == index - 1].any(axis=0)
            assert not (mask & ~drawn).any()
            assert not (drawn & ~grown(mask)).any()


def test_supervision_reads_voc(finished):
    out = finished.export("voc").path
    found = supervision.DetectionDataset.from_pascal_voc(
        images_directory_path=str(out / "JPEGImages"),
        annotations_directory_path=str(out / "Annotations"),
    )
    for path, _, detections in found:
        key = path.removesuffix(".jpg").rsplit("/", 1)[1]
        labels = finished.labels(key)
        names = {found.classes[index] for index in detections.class_id}
        assert names == {finished.classes[i - 1] for i in set(labels.ravel().tolist()) - {0}}


def test_torchvision_reads_voc(finished):
    finished.export("voc", "VOCdevkit/VOC2012")
    root = finished.photos.parent
    boxes = VOCDetection(str(root), year="2012", image_set="train")
    masks = VOCSegmentation(str(root), year="2012", image_set="train")
    assert len(boxes) == len(masks) == 4
    for key, (image, truth), (_, mask) in zip(finished.keys, boxes, masks, strict=True):
        labels = finished.labels(key)
        np.testing.assert_array_equal(np.asarray(mask), labels)
        assert image.size == labels.shape[::-1]
        objects = truth["annotation"].get("object", [])
        names = [finished.classes.index(item["name"]) + 1 for item in objects]
        assert sorted(names) == sorted(set(labels.ravel().tolist()) - {0})
        for index, item in zip(names, objects, strict=True):
            rows, columns = np.nonzero(labels == index)
            box = {side: int(value) for side, value in item["bndbox"].items()}
            assert (box["xmin"], box["ymin"]) == (columns.min() + 1, rows.min() + 1)
            assert (box["xmax"], box["ymax"]) == (columns.max() + 1, rows.max() + 1)
