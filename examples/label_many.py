"""Masks of any number of images, by processes on one disk; begun again, each goes on.

python examples/label_many.py RUN photos labels 0 4      (part 0 of 4; start 0, 1, 2 and 3)
"""

import sys
import zlib
from pathlib import Path

from PIL import Image

import weakseg

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif"}


def main(run: str, photos: str, out: str, part: int, parts: int) -> bool:
    """Label the images that fall to this part; the mask of a/b.jpg is a/b.jpg.png."""
    images = [path for path in Path(photos).rglob("*") if path.suffix.lower() in SUFFIXES]
    mine = [path for path in images if zlib.crc32(bytes(path)) % parts == part]
    places = {path: Path(out, f"{path.relative_to(photos)}.png") for path in mine}
    left = [path for path in mine if not places[path].exists()]
    bad, labeler = 0, weakseg.Labeler.from_run(run, mirror=False)
    for number, mask, error, _ in labeler.stream(left):  # in the order in which they are ready
        if mask is None:
            bad += 1
            print(f"bad: {error}")
            continue
        place = places[left[number]]
        place.parent.mkdir(parents=True, exist_ok=True)
        unfinished = place.with_suffix(".part")
        Image.fromarray(mask.numpy()).save(unfinished, "PNG")
        unfinished.replace(place)
    print(f"part {part}: {len(left) - bad} made, {len(mine) - len(left)} there, {bad} bad")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4], *map(int, sys.argv[4:6])))
