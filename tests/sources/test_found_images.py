import pytest
from PIL import Image

from weakseg.sources.found_images import find_images
from weakseg.types import DataError


@pytest.fixture
def photos(tmp_path):
    for name in ("b.jpg", "a.png", "sub/c.jpg", "sub/deep/d.JPG", "masks/b.png", ".hidden.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    (tmp_path / "photos" / "notes.dat").write_text("")
    return tmp_path / "photos"


def names(*given, outside):
    return [image.name for image in find_images(given, outside=outside)]


def test_a_folder_with_its_sub_folders(photos, tmp_path):
    assert names(photos, outside=tmp_path / "out") == ["a", "b", "sub/c", "sub/deep/d"]
    assert names(photos / "masks", outside=tmp_path / "out") == ["b"]


def test_files_have_their_own_names(photos, tmp_path):
    given = (photos / "sub" / "c.jpg", photos / "notes.dat", photos / "b.jpg")
    assert names(*given, outside=tmp_path / "out") == ["c", "notes.dat", "b"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["b"]),
        ("*", ["a", "b", "masks/b", "sub/c", "sub/deep/d"]),
        ("**/*.[jJ][pP][gG]", ["b", "sub/c", "sub/deep/d"]),
        ("s?b/*.jpg", ["sub/c"]),
    ],
)
def test_patterns_name_by_the_path_below_their_fixed_part(photos, tmp_path, pattern, expected):
    assert sorted(names(photos / pattern, outside=tmp_path / "out")) == expected


def test_a_file_named_like_a_pattern(photos, tmp_path):
    (photos / "b.jpg").rename(photos / "b[1].jpg")
    assert names(photos / "b[1].jpg", outside=tmp_path / "out") == ["b[1]"]


def test_the_same_image_counts_once(photos, tmp_path):
    assert names(photos / "b.jpg", photos / "*.jpg", outside=tmp_path / "out") == ["b"]
    assert names(photos, photos / "sub", photos / "a.png", outside=tmp_path / "out") == [
        *("a", "b", "sub/c", "sub/deep/d")
    ]


def test_results_are_not_found_again(photos):
    assert names(photos, outside=photos / "sub") == ["a", "b"]
    with pytest.raises(DataError, match="no image in such a folder"):
        find_images([photos / "sub"], outside=photos / "sub")


def test_links_may_lead_anywhere(photos, tmp_path):
    folder = tmp_path / "links"
    folder.mkdir()
    (folder / "x.jpg").symlink_to(photos / "b.jpg")
    assert names(folder, outside=tmp_path / "out") == ["x"]


def test_two_images_of_one_name_are_refused(photos, tmp_path):
    Image.new("RGB", (4, 4)).save(photos / "b.png")
    with pytest.raises(DataError, match=r"its mask would overwrite that of .*b\.(png|jpg); rename"):
        find_images([photos], outside=tmp_path / "out")


@pytest.mark.parametrize("given", ["nowhere.jpg", "nowhere/*.jpg", "empty"])
def test_what_is_not_there_is_said(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="there is no such file"):
        find_images([given], outside=tmp_path / "out")
