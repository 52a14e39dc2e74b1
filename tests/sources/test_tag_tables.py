import json
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weakseg.sources.cells import split_tags
from weakseg.sources.reading import TableOptions
from weakseg.sources.tag_tables import read_tags


def read(tmp_path, content, name="labels.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_tags(path)


def told(file):
    return [(row.image, row.tags) for row in file.rows]


def faults(file):
    return [(f.kind, f.line) for f in file.faults if f.severity == "fault"]


@pytest.mark.parametrize(
    ("cell", "tags"),
    [
        ("", ()),
        ("   ", ()),
        ("cat", ("cat",)),
        ("cat dog", ("cat", "dog")),
        (" cat   dog ", ("cat", "dog")),
        ("cat;dog", ("cat", "dog")),
        ("cat|dog", ("cat", "dog")),
        ("cat; dog |bird", ("cat", "dog", "bird")),
        ("traffic light;dog", ("traffic light", "dog")),
        ("traffic light;", ("traffic light",)),
        (";;", ()),
        ("cat cat", ("cat",)),
        ("dog, person", ("dog", "person")),
        ("dog,person", ("dog", "person")),
        ("traffic light, dog", ("traffic light", "dog")),
        ("['dog', 'person']", ("dog", "person")),
        ('["dog", "person"]', ("dog", "person")),
        ("['traffic light']", ("traffic light",)),
        ("('dog', 'person')", ("dog", "person")),
        ("('dog',)", ("dog",)),
        ("('dog')", ("dog",)),
        ("{'person', 'dog'}", ("dog", "person")),
        ("{dog,person}", ("dog", "person")),
        ("[dog, 'person']", ("dog", "person")),
        ("[]", ()),
        ("[1, 2]", ("1", "2")),
        (r'["a\u00e9b"]', ("a\u00e9b",)),
        ("traffic  light;", ("traffic light",)),
        ("cat\u00a0", ("cat",)),
        ("[cat dog", ("[cat", "dog")),
    ],
)
def test_cells(cell, tags):
    assert split_tags(cell) == tags


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.csv", "image,tags\na.jpg,cat dog\nb.jpg,\n"),
        ("labels.csv", "Image,Labels\na.jpg,cat|dog\nb.jpg,\n"),
        ("labels.csv", "image;tags\na.jpg;cat dog\nb.jpg;\n"),
        ("labels.csv", "note,tags,image\nx,cat;dog,a.jpg\n,,b.jpg\n"),
        ("labels.csv", '"image","tags"\n"a.jpg","cat dog"\n"b.jpg",""\n'),
        ("labels.csv", "\n\nimage,tags\n\na.jpg,cat dog\n\nb.jpg,"),
        ("labels.csv", "image,cat,dog\na.jpg,1,1\nb.jpg,0,0\n"),
        ("labels.csv", "image,label,cat,dog\na.jpg,0,1,1\nb.jpg,0,0,0\n"),
        ("labels.tsv", "image\ttags\na.jpg\tcat dog\nb.jpg\t\n"),
        ("labels.TSV", "image\tcat\tdog\na.jpg\t1\t1\nb.jpg\t0\t0\n"),
        (
            "labels.jsonl",
            '{"image": "a.jpg", "tags": ["cat", "dog"]}\n\n{"tags": [], "image": "b.jpg"}\n',
        ),
        ("labels.jsonl", '{"file": "a.jpg", "labels": "cat dog"}\n{"file":"b.jpg","labels":""}\n'),
    ],
)
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "crlf", "cr", "utf-16", "utf-16-le", "utf-16-be"]
)
def test_every_form_in_every_encoding(tmp_path, name, content, encoding):
    if encoding in ("crlf", "cr"):
        data = content.replace("\n", {"crlf": "\r\n", "cr": "\r"}[encoding]).encode()
    else:
        data = content.encode(encoding)
    file = read(tmp_path, data, name)
    assert told(file) == [("a.jpg", ("cat", "dog")), ("b.jpg", ())]
    assert not file.fatal
    passed_over = [f.found for f in file.faults if f.kind == "tags_file"]
    assert passed_over == (["column passed over: 'note'"] if "note," in content else [])
    severities = [(f.kind, f.severity) for f in file.faults if f.kind != "tags_file"]
    expected = "fault" if encoding.startswith("utf-16") else "note"
    assert severities == ([] if encoding == "utf-8" else [("encoding", expected)])


def test_lines_that_are_not_utf8_are_told_and_unusable(tmp_path):
    file = read(tmp_path, b"image,tags\na.jpg,cat\ncaf\xe9.jpg,cat\nb.jpg,dog\n")
    assert faults(file) == [("encoding", 3)]
    assert file.faults[0].samples == ("café.jpg",)
    assert [row.usable for row in file.rows] == [True, False, True]


def test_decomposed_letters_are_composed(tmp_path):
    file = read(tmp_path, "image,tags\na.jpg,cafe\u0301\n")
    assert file.rows[0].tags == ("café",)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("a.jpg,cat\nb.jpg,dog\n", "header is 'a.jpg,cat'"),
        ("foo,bar\na.jpg,cat\n", "header is 'foo,bar'"),
        ("image\na.jpg\n", "header is 'image'"),
        ("image,names\na.jpg,cat\n", "no column 'tags'"),
        ("image,tags,tags\na.jpg,cat,dog\n", "each of the columns 'tags', 'tags' may hold"),
        ("image,cat,cat\na.jpg,1,0\n", "'cat' twice"),
        ("image,cat,\na.jpg,1,0\nb.jpg,0,0\n", "without a name"),
        ("image,tags\n", "no rows"),
        ('"image,tags\na.jpg,cat\n', "header"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, content, found):
    file = read(tmp_path, content)
    assert not file.rows
    assert found in file.fatal[0].found
    assert file.fatal[0].remedy
    assert file.fatal[0].kind == "tags_file"


def test_broken_rows_hide_no_others(tmp_path):
    file = read(
        tmp_path,
        "image,tags\n"  # 1
        "a.jpg,cat\n"
        "b.jpg\n"  # 3: one column
        "c.jpg,cat,dog\n"  # 4: three
        'd.jpg,"cat\n'  # 5: unclosed
        'e.jpg,"ca"t"\n'  # 6: broken quotes
        ",cat\n"  # 7: no image
        "f.jpg,dog\n",
    )
    assert told(file) == [("a.jpg", ("cat",)), ("f.jpg", ("dog",))]
    assert faults(file) == [("row", line) for line in (3, 4, 5, 6, 7)]
    assert [f.samples for f in file.faults] == [("b.jpg",), ("c.jpg",), ("d.jpg",), ("e.jpg",), ()]
    assert "'b.jpg,'" in file.faults[0].remedy
    assert "unclosed quotes" in file.faults[2].found


def test_wide_cells_other_than_0_and_1(tmp_path):
    file = read(tmp_path, "image,cat,dog\na.jpg,1,0\nb.jpg,maybe,0\nc.jpg,,1\nd.jpg, 1,0\n")
    assert faults(file) == [("row", 3), ("row", 4)]
    assert "cat=maybe" in file.faults[0].found
    assert [row.usable for row in file.rows] == [True, False, False, True]
    assert file.columns == ("cat", "dog")


def test_wide_header_with_blanks(tmp_path):
    file = read(tmp_path, "image,cat ,dog,bird\na.jpg,1,0,0\n")
    assert file.columns == ("cat", "dog", "bird")
    assert faults(file) == []
    assert [(f.kind, f.line) for f in file.faults] == [("tag_blanks", 1)]
    assert not read(tmp_path, "image, cat, dog\na.jpg, 1, 0\n").faults


def test_json_lines_that_do_not_parse(tmp_path):
    lines = [
        '{"image": "a.jpg", "tags": ["cat"]}',
        '{"image": "b.jpg", "tags": [',
        '["c.jpg"]',
        '{"tags": ["cat"]}',
        '{"image": "d.jpg"}',
        '{"image": "e.jpg", "tags": null}',
        '{"image": "f.jpg", "tags": [1]}',
        '{"image": 3, "tags": []}',
        "[" * 100_000,
        '{"image": "g.jpg", "tags": [" dog"]}',
    ]
    file = read(tmp_path, "\n".join(lines), "labels.jsonl")
    assert told(file) == [("a.jpg", ("cat",)), ("g.jpg", ("dog",))]
    assert faults(file) == [("row", line) for line in range(2, 10)]
    assert [(f.kind, f.line) for f in file.faults if f.severity == "note"] == [("tag_blanks", 10)]


@pytest.mark.parametrize(
    ("cells", "bad"),
    [
        (["cat;dog", "cat;dog", "cat; dog"], [4]),
        (["cat; dog", "cat; dog", "cat;dog"], [4]),
        (["cat;dog", "cat ;dog", "cat;dog"], [3]),
        (["cat dog", "cat", "cat "], [4]),
        (["cat dog", " cat", "dog"], [3]),
        ([" cat dog", " cat", " dog"], []),
        (["cat dog", "cat  dog", "cat dog"], [3]),
        (["cat; dog", "bird; cat; dog", "cat"], []),
        (["cat | dog", "bird | cat", ""], []),
        (["cat;dog", "cat;", "dog"], []),
    ],
)
def test_the_rarer_use_of_blanks_is_noted_and_read_alike(tmp_path, cells, bad):
    rows = "".join(f"{i}.jpg,{cell}\n" for i, cell in enumerate(cells))
    file = read(tmp_path, "image,tags\n" + rows)
    assert faults(file) == []
    assert [(f.kind, f.line) for f in file.faults] == [("tag_blanks", line) for line in bad]
    assert all(fault.samples == () for fault in file.faults)
    assert all(tag == tag.strip() and row.usable for row in file.rows for tag in row.tags)


NAMES = st.text(
    st.characters(categories=("L", "N"), include_characters="-_."), min_size=1, max_size=8
).filter(
    lambda name: name.strip() == name and name not in ("0", "1")
)  # 0 and 1 may mean no and yes


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(NAMES, st.lists(NAMES, unique=True, max_size=4)), min_size=1))
def test_all_forms_say_the_same(tmp_path, rows):
    rows = [
        (unicodedata.normalize("NFC", name), [unicodedata.normalize("NFC", tag) for tag in tags])
        for name, tags in rows
    ]
    forms = {
        "a.csv": "image,tags\n" + "".join(f"{n},{' '.join(t)}\n" for n, t in rows),
        "b.csv": "image,tags\n" + "".join(f"{n},{';'.join(t)}\n" for n, t in rows),
        "c.tsv": "image\ttags\n" + "".join(f"{n}\t{'|'.join(t)}\n" for n, t in rows),
        "d.jsonl": "".join(json.dumps({"image": n, "tags": t}) + "\n" for n, t in rows),
    }
    expected = [(name, tuple(dict.fromkeys(tags))) for name, tags in rows]
    for name, content in forms.items():
        assert told(read(tmp_path, content, name)) == expected


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from([b"", b"image,tags\n", b"image,cat,dog\n", b'{"image": "a", "tags": []}\n']),
    st.binary(max_size=200) | st.text(',;|"\r\n\t\0 ab01{}[]:', max_size=200).map(str.encode),
    st.sampled_from(["labels.csv", "labels.tsv", "labels.jsonl"]),
)
def test_random_bytes_are_never_a_traceback(tmp_path, head, noise, name):
    file = read(tmp_path, head + noise, name)
    for fault in [*file.fatal, *file.faults]:
        assert fault.remedy
        assert "\n" not in str(fault)
    assert file.fatal or file.rows or file.faults
    for row in file.rows:
        assert row.image.strip()


@pytest.mark.parametrize(
    ("cell", "separator", "tags"),
    [
        ("a, b/c d", "/", ("a, b", "c d")),
        ("a  b", " ", ("a", "b")),
        ("a b\tc", "\\t", ("a b", "c")),
        ("a::b", "::", ("a", "b")),
    ],
)
def test_cells_with_a_separator_that_is_said(cell, separator, tags):
    assert split_tags(cell, separator) == tags


CAT_DOG = [("a.jpg", ("cat", "dog")), ("b.jpg", ())]


@pytest.mark.parametrize(
    "header", ["image_id", "id", "filename", "file", "path", "Image Path", "IMG"]
)
@pytest.mark.parametrize("tags", ["label", "labels", "class", "classes", "Class-Name", "category"])
def test_headers_that_other_programs_write(tmp_path, header, tags):
    file = read(tmp_path, f"{header},{tags}\na.jpg,cat dog\nb.jpg,\n")
    assert told(file) == CAT_DOG
    assert file.faults == []


@pytest.mark.parametrize(
    ("yes", "no"), [("True", "False"), ("1.0", "0.0"), ("TRUE", "false"), ("yes", "no")]
)
def test_wide_tables_of_words_and_decimals(tmp_path, yes, no):
    file = read(tmp_path, f"filename,cat,dog\na.jpg,{yes},{yes}\nb.jpg,{no},{no}\n")
    assert told(file) == CAT_DOG
    assert file.columns == ("cat", "dog")


@pytest.mark.parametrize(
    ("content", "ignored"),
    [
        (",image,tags\n0,a.jpg,cat dog\n1,b.jpg,\n", "'(without a name)'"),
        ("Unnamed: 0,image,cat,dog\n0,a.jpg,1,1\n1,b.jpg,0,0\n", "'Unnamed: 0'"),
        ("image,tags,width,height\na.jpg,cat dog,640,480\nb.jpg,,640,480\n", "'width', 'height'"),
        ("image,cat,dog,site\na.jpg,1,1,north\nb.jpg,0,0,south\n", "'site'"),
        ("id,filename,tags\n7,a.jpg,cat dog\n8,b.jpg,\n", "'id'"),
    ],
)
def test_columns_that_say_nothing_are_passed_over_with_a_note(tmp_path, content, ignored):
    file = read(tmp_path, content)
    assert told(file) == CAT_DOG
    [note] = file.faults
    assert (note.severity, note.found.split(": ", 1)[1]) == ("note", ignored)


def test_one_row_a_tag(tmp_path):
    file = read(tmp_path, "image,label,xmin\na.jpg,cat,3\na.jpg,dog,5\na.jpg,dog,9\nb.jpg,dog,1\n")
    assert told(file) == [("a.jpg", ("cat", "dog")), ("b.jpg", ("dog",))]
    assert any("one row for each tag" in fault.found for fault in file.faults)
    assert not faults(file)


def test_rows_that_say_a_class_is_absent(tmp_path):
    file = read(tmp_path, "ImageID,LabelName,Confidence\na,cat,1\na,dog,0\nb,dog,1\nb,cat,0\n")
    assert told(file) == [("a", ("cat",)), ("b", ("dog",))]


def test_a_cell_over_several_lines(tmp_path):
    file = read(tmp_path, 'image,note,tags\na.jpg,"first\nsecond, third",cat dog\nb.jpg,,\n')
    assert told(file) == CAT_DOG
    assert [row.line for row in file.rows] == [2, 4]


@pytest.mark.parametrize(
    ("content", "found", "remedy"),
    [
        ("photo_no,tags\n1,cat\n", "no column is known to name the images", "--image-column"),
        ("image,kind\na.jpg,cat\n", "no column 'tags'", "--tags-column"),
        ("image,label,category\na.jpg,cat,pet\n", "'label', 'category' may hold", "--tags-column"),
        ("image,label\na.jpg,1\nb.jpg,0\n", "only 0 and 1", "--tags-column label"),
    ],
)
def test_what_stays_ambiguous_names_the_option(tmp_path, content, found, remedy):
    file = read(tmp_path, content)
    assert not file.rows
    assert found in file.fatal[0].found
    assert remedy in file.fatal[0].remedy


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("photo_no,kind\na.jpg,cat dog\nb.jpg,\n", ("photo_no", "kind", None)),
        ("image,label,category\na.jpg,pet,cat dog\nb.jpg,pet,\n", (None, "category", None)),
        ("image,tags\na.jpg,cat/dog\nb.jpg,\n", (None, None, "/")),
    ],
)
def test_options_settle_it(tmp_path, content, options):
    path = tmp_path / "labels.csv"
    path.write_text(content)
    assert told(read_tags(path, TableOptions(*options))) == CAT_DOG
    wrong = read_tags(path, TableOptions("nothing"))
    assert "no column is called 'nothing'" in wrong.fatal[0].found


def test_splits_by_a_column(tmp_path):
    file = read(tmp_path, "image,tags,split\na.jpg,cat,train\nb.jpg,dog,test\n")
    assert [row.split for row in file.rows] == ["train", "test"]
