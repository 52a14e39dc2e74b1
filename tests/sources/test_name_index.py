"""One matcher of names, for every place where a file names images."""

import pytest

from weakseg.sources.name_index import Match, NameIndex, plain_name

FILES = ("a.jpg", "sub/b.png", "sub/c.JPG", "other/c.jpg", "shot.jpg", "shot.2020.jpg", "two.png")
INDEX = NameIndex((*FILES, "two.jpg", "deep/er/d.tif"), name=str)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("a.jpg", ["a.jpg"]),
        ("a", ["a.jpg"]),
        (" a.jpg ", ["a.jpg"]),
        ("./a.jpg", ["a.jpg"]),
        ("a.JPG", ["a.jpg"]),
        ("sub\\b.png", ["sub/b.png"]),
        ("sub/c.jpg", ["sub/c.JPG"]),
        ("shot.jpg", ["shot.jpg"]),
        ("shot", ["shot.jpg"]),
        ("shot.2020", ["shot.2020.jpg"]),
        ("two", ["two.png", "two.jpg"]),
        ("two.png", ["two.png"]),
    ],
)
def test_names_below_the_folder(name, files):
    assert INDEX.find(name) == Match(tuple(files))


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("photos/a.jpg", ["a.jpg"]),
        ("/data/photos/a.jpg", ["a.jpg"]),
        ("C:\\photos\\sub\\b.png", ["sub/b.png"]),
        ("\\\\server\\share\\a.jpg", ["a.jpg"]),
        ("https://host/x/a.jpg?size=3", ["a.jpg"]),
        ("s3://bucket/er/d.tif", ["deep/er/d.tif"]),
        ("/data/local-files/?d=photos/sub/b.png", ["sub/b.png"]),
        ("../images/a.jpg", ["a.jpg"]),
        ("b.png", ["sub/b.png"]),
        ("b", ["sub/b.png"]),
        ("c.jpg", ["sub/c.JPG", "other/c.jpg"]),
        ("x/other/c.jpg", ["other/c.jpg"]),
        ("x/shot", ["shot.jpg"]),
    ],
)
def test_names_of_other_places_are_found_by_their_end(name, files):
    assert INDEX.find(name) == Match(tuple(files), below=True)


@pytest.mark.parametrize(
    "name", ["z.jpg", "", ".", "..", "a.jpg/", "a.jpg/x", "C:", "xa.jpg", "a.png"]
)
def test_other_names_mean_nothing(name):
    found = INDEX.find(name).items
    assert found == (("a.jpg",) if name == "a.jpg/" else ())


def test_composed_and_decomposed_names_are_one():
    index = NameIndex(["cafe\u0301.jpg"], name=str)
    assert index.find("caf\u00e9.jpg").items == ("cafe\u0301.jpg",)
    assert plain_name("https://host/caf%C3%A9.jpg") == "/caf\u00e9.jpg"


def test_what_only_begins_as_a_url_is_a_name():
    assert plain_name(" https://[host/a.jpg") == "https://[host/a.jpg"
    assert INDEX.find("https://[host/a.jpg").items == ("a.jpg",)


def test_many_files_of_one_name_cost_linear_time():
    index = NameIndex((f"{n}/image.png" for n in range(100_000)), name=str)
    assert len(index.find("x/image.png").items) == 100_000
