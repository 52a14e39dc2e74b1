"""Tables of tags: CSV, TSV, JSON lines, as people, pandas, spreadsheets and services write them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from foreign_layouts.parts import TAGS, Layout, mask, masks, photo, photos, table

Row = Callable[[str, Sequence[str]], str]


def csv(header: str, row: Row, name: str = "labels.csv", encoding: str = "utf-8") -> Callable:
    """A folder of photographs with a table."""

    def build(folder: Path) -> None:
        photos(folder)
        path = table(folder / name, header, row)
        path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))

    return build


def cell(text: Callable[[Sequence[str]], str]) -> Callable:
    """`image,tags` with cells as given."""
    return csv("image,tags", lambda name, tags: f"{name}.jpg,{text(tags)}")


def edited(old: str, new: str, base: Callable | None = None) -> Callable:
    """The plain table with one text replaced."""

    def build(folder: Path) -> None:
        (base or cell(" ".join))(folder)
        path = folder / "labels.csv"
        path.write_text(path.read_text().replace(old, new), encoding="utf-8")

    return build


def one_row_a_tag(folder: Path) -> None:
    photos(folder)
    rows = [f"{name}.jpg,{tag}" for name, tags in TAGS.items() for tag in tags or ("",)]
    (folder / "train.csv").write_text("filename,label\n" + "\n".join(rows) + "\n")


def roboflow_boxes(folder: Path) -> None:
    photos(folder)
    rows = [
        f"{name}.jpg,32,24,{tag},1,2,9,9" for name, tags in TAGS.items() for tag in (*tags, *tags)
    ]
    header = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    (folder / "_annotations.csv").write_text(header + "\n".join(rows) + "\n")


def open_images(folder: Path) -> None:
    photos(folder / "images")
    rows = [
        f"{name},verification,{tag},{int(tag in tags)}"
        for name, tags in TAGS.items()
        for tag in ("cat", "dog")
    ]
    (folder / "labels.csv").write_text("ImageID,Source,LabelName,Confidence\n" + "\n".join(rows))


def huggingface(folder: Path) -> None:
    photos(folder)
    rows = [json.dumps({"file_name": f"{n}.jpg", "labels": list(t)}) for n, t in TAGS.items()]
    (folder / "metadata.jsonl").write_text("\n".join(rows))


def elsewhere(prefix: str) -> Callable:
    def build(folder: Path) -> None:
        photos(folder / "images")
        table(folder / "labels.csv", "image,tags", lambda n, t: f"{prefix}{n}.jpg,{' '.join(t)}")

    return build


def two_words(folder: Path) -> None:
    photos(folder)
    rows = ["a.jpg,traffic light", "b.jpg,traffic light dog", "c.jpg,dog", "d.jpg,"]
    (folder / "labels.csv").write_text("image,tags\n" + "\n".join(rows) + "\n")


def copies(folder: Path, other: str = "") -> None:
    cell(" ".join)(folder)
    shutil.copyfile(folder / "a.jpg", folder / "e.jpg")
    with (folder / "labels.csv").open("a") as file:
        file.write(f"e.jpg,{other or 'cat'}\n")


def dotted(folder: Path) -> None:
    photos(folder, ("shot", "shot.2020", "x", "y"))
    rows = ["shot.jpg,dog", "shot.2020,cat", "x,cat dog", "y,"]
    (folder / "labels.csv").write_text("image,tags\n" + "\n".join(rows) + "\n")


def nothing(folder: Path) -> None:
    photos(folder)
    table(folder / "labels.csv", "image,tags", lambda name, _: f"{name}.jpg,")


def everything(folder: Path) -> None:
    photos(folder)
    table(folder / "labels.csv", "image,tags", lambda name, _: f"{name}.jpg,cat")


def with_truth(index: dict[str, int], suffix: str = ".png") -> Callable:
    def build(folder: Path) -> None:
        cell(" ".join)(folder)
        masks(folder / "masks", suffix, index)

    return build


def channels(alpha: int) -> Callable:
    def build(folder: Path) -> None:
        photos(folder, suffix=".png")
        table(folder / "labels.csv", "image,tags", lambda n, t: f"{n}.png,{' '.join(t)}")
        image = Image.open(folder / "a.png").convert("RGBA")
        image.putalpha(alpha)
        image.save(folder / "a.png")

    return build


def pages(folder: Path) -> None:
    photos(folder, suffix=".tif")
    table(folder / "labels.csv", "image,tags", lambda n, t: f"{n}.tif,{' '.join(t)}")
    images = [Image.open(folder / f"{name}.tif").copy() for name in "ab"]
    images[0].save(folder / "a.tif", save_all=True, append_images=images[1:])


def beside_a_folder(folder: Path) -> None:
    cell(" ".join)(folder)
    photo(folder / "a.png" / "z.jpg", 5)


def loop(folder: Path) -> None:
    cell(" ".join)(folder)
    (folder / "loop").symlink_to(folder, target_is_directory=True)


def upright(folder: Path) -> None:
    cell(" ".join)(folder)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(folder / "a.jpg", exif=exif)
    (folder / "masks").mkdir()
    Image.fromarray(mask(TAGS["a"])).save(folder / "masks" / "a.png")


PLAIN = cell(" ".join)
PERMUTED, FROM_0, OFF_BY_1 = {"cat": 2, "dog": 1}, {"cat": 0, "dog": 1}, {"cat": 2, "dog": 3}
SHOT = {"shot": ("dog",), "shot.2020": ("cat",), "x": ("cat", "dog"), "y": ()}

LAYOUTS = (
    Layout("CSV, tags by spaces", PLAIN),
    Layout('CSV, "dog, person"', cell(lambda t: f'"{", ".join(t)}"')),
    Layout('CSV, "dog,person"', cell(lambda t: f'"{",".join(t)}"')),
    Layout("CSV, Python's list", cell(lambda t: f'"{list(t)}"')),
    Layout("CSV, JSON's list", cell(lambda t: '"' + json.dumps(t).replace('"', '""') + '"')),
    Layout("CSV, tuple", cell(lambda t: f'"{tuple(t)}"')),
    Layout("CSV, bare brackets", cell(lambda t: f'"[{", ".join(t)}]"')),
    Layout("CSV, ;", cell("; ".join)),
    Layout("CSV, |", cell("|".join)),
    Layout("CSV, trailing space", edited("a.jpg,cat", "a.jpg,cat "), notes=("stray spaces",)),
    Layout("CSV, double space", edited("cat dog", "cat  dog"), notes=()),
    Layout("CSV, slash with --separator", cell("/".join), options={"separator": "/"}),
    Layout("CSV, tag [cat", edited("c.jpg,dog", "c.jpg,[dog"), None, refused="--separator"),
    Layout("CSV, two words", two_words, {"a": ("light", "traffic"), "b": ("dog", "light", "traffic"),
           "c": ("dog",), "d": ()}, notes=("traffic light;",)),
    *(
        Layout(f"CSV, header {image},{tags}",
               csv(f"{image},{tags}", lambda name, t: f"{name}.jpg,{' '.join(t)}"))
        for image, tags in (("image_id", "labels"), ("id", "label"), ("filename", "classes"),
                            ("file", "class"), ("path", "category"), ("Image Name", "Tags"))
    ),
    Layout("CSV, id without suffix (Kaggle)",
           csv("id,tags", lambda name, t: f"{name},{' '.join(t)}")),
    Layout("CSV, header nobody knows", csv("photo_no,kind", lambda n, t: f"{n}.jpg,{' '.join(t)}"),
           None, refused="--image-column"),
    Layout("CSV, header nobody knows, told",
           csv("photo_no,kind", lambda n, t: f"{n}.jpg,{' '.join(t)}"),
           options={"image_column": "photo_no", "tags_column": "kind"}),
    Layout("CSV, two columns of tags", csv("image,label,category",
           lambda n, t: f"{n}.jpg,{' '.join(t)},pet"), None, refused="--tags-column"),
    Layout("CSV, label of 0 and 1", csv("image,label", lambda n, t: f"{n}.jpg,{int('cat' in t)}"),
           None, refused="call the column as the class is called"),
    Layout("CSV, wide 0/1", csv("image,cat,dog",
           lambda n, t: f"{n}.jpg,{int('cat' in t)},{int('dog' in t)}")),
    Layout("CSV, wide True/False", csv("image,cat,dog",
           lambda n, t: f"{n}.jpg,{'cat' in t},{'dog' in t}")),
    Layout("CSV, wide 1.0/0.0", csv("image,cat,dog",
           lambda n, t: f"{n}.jpg,{float('cat' in t)},{float('dog' in t)}")),
    Layout("Roboflow multi-class CSV", csv("filename, cat, dog",
           lambda n, t: f"{n}.jpg, {int('cat' in t)}, {int('dog' in t)}", "_classes.csv"),
           notes=("'_classes.csv'",)),
    Layout("Roboflow boxes CSV", roboflow_boxes,
           {name: tags for name, tags in TAGS.items() if tags}, notes=("one row for each tag",)),
    Layout("CSV, one row a tag", one_row_a_tag, notes=("one row for each tag", "'train.csv'")),
    Layout("Open Images CSV", open_images, notes=("one row for each tag",)),
    Layout("pandas index", csv("Unnamed: 0,image,tags",
           lambda n, t: f"{'abcd'.index(n)},{n}.jpg,{' '.join(t)}"), notes=("Unnamed: 0",)),
    Layout("pandas index without a name", csv(",image,tags",
           lambda n, t: f"{'abcd'.index(n)},{n}.jpg,{' '.join(t)}"), notes=("without a name",)),
    Layout("CSV, further columns", csv("image,width,tags,height",
           lambda n, t: f"{n}.jpg,32,{' '.join(t)},24"), notes=("'width', 'height'",)),
    Layout("CSV, column of splits", csv("image,tags,split",
           lambda n, t: f"{n}.jpg,{' '.join(t)},{'train' if n in 'abc' else 'test'}"),
           {n: t for n, t in TAGS.items() if n in "abc"}, options={"split": "train"}),
    Layout("Excel, semicolons, BOM", csv("image;tags", lambda n, t: f"{n}.jpg;{' '.join(t)}",
           encoding="utf-8-sig"), notes=("byte-order mark",)),
    Layout("Excel, UTF-16", csv("image\ttags", lambda n, t: f"{n}.jpg\t{' '.join(t)}",
           encoding="utf-16"), None, refused="save the file as UTF-8"),
    Layout("Excel, cell over lines", csv("image,note,tags",
           lambda n, t: f'{n}.jpg,"one\ntwo, three",{" ".join(t)}')),
    Layout("TSV", csv("image\ttags", lambda n, t: f"{n}.jpg\t{', '.join(t)}", "labels.tsv")),
    Layout("JSON lines (Hugging Face)", huggingface, notes=("'metadata.jsonl'",)),
    Layout("tag nan", edited("d.jpg,", "d.jpg,nan"), None, refused="leave the tags of an image empty"),
    Layout("tag None", edited("d.jpg,", "d.jpg,None"), None, refused="leave the tags"),
    Layout("tag null", edited("d.jpg,", "d.jpg,null"), None, refused="leave the tags"),
    Layout("tag NA", edited("d.jpg,", "d.jpg,NA"), None, refused="leave the tags"),
    Layout("tag background", edited("d.jpg,", "d.jpg,background"), None, refused="leave the tags"),
    Layout("no tag at all", nothing, None, refused="name for each image what is in it"),
    Layout("no image without the class", everything, None, refused="add images without"),
    Layout("paths of another machine", elsewhere("/data/someone/pets/"), notes=("another place",)),
    Layout("URLs", elsewhere("https://host/pets/"), notes=("another place",)),
    Layout("Windows paths", elsewhere("D:\\pets\\"), notes=("another place",)),
    Layout("images/ before the name", elsewhere("images/")),
    Layout("images\\ before the name", elsewhere("images\\")),
    Layout("dots in names", dotted, SHOT),
    Layout("two copies, same tags", copies, {**TAGS, "e": ("cat",)}, notes=("same content",)),
    Layout("two copies, other tags", lambda f: copies(f, "dog"), None, refused="all tags that are right"),
    Layout("truth beside", with_truth({"cat": 1, "dog": 2}), truth=True),
    Layout("truth x_mask.png", with_truth({"cat": 1, "dog": 2}, "_mask.png"), truth=True,
           notes=("another ending",)),
    Layout("truth, permuted", with_truth(PERMUTED), None, refused="classes.txt"),
    Layout("truth from 0", with_truth(FROM_0), None, refused="classes.txt"),
    Layout("truth off by one", with_truth(OFF_BY_1), None, refused="name all classes"),
    Layout("truth of 0 and 255", with_truth({"cat": 255, "dog": 255}), None,
           refused="give the pixels of the k-th class index k"),
    Layout("truth of a turned photo", upright, None, refused="turn the mask like the photo"),
    Layout("partly transparent", channels(120), notes=("--ignore-alpha",)),
    Layout("fully transparent", channels(0), None, refused="--ignore-alpha"),
    Layout("fully transparent, ignored", channels(0), options={"ignore_alpha": True}),
    Layout("TIFF of two pages", pages, notes=("the first is read",)),
    Layout("a.jpg beside a.png/", beside_a_folder),
    Layout("a loop of links", loop, notes=("a link to a folder",)),
)  # fmt: skip
