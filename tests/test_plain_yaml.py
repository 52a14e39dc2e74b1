import time

import pytest

from weakseg.plain_yaml import PlainYamlError, parse_yaml

BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(20)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("{a: 1, b: [0.5, true, null]}", {"a": 1, "b": [0.5, True, None]}),
        ("2001-01-01", "2001-01-01"),
        ("2001-99-99", "2001-99-99"),
        ("[[[1]]]", [[[1]]]),
        (b"\xef\xbb\xbfa: caf\xc3\xa9", {"a": "café"}),
    ],
)
def test_values(text, value):
    assert parse_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("&x {x: *x}", "an anchor &x"),
        ("*x", "an alias [*]x"),
        (BOMB, "an anchor &a"),
        ("!!timestamp 2001-99-99", "a value that cannot be read"),
        ("!!bool 7", "a value that cannot be read"),
        ("!!int seven", "a value that cannot be read"),
        ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("[" * 3000, "nested more than"),
        ("- " * 3000, "nested more than"),
        ("{a: " * 3000, "nested more than"),
        ("9" * 5000, "a number of 5000 characters"),
        ("0x" + "f" * 5000, "a number of 5002 characters"),
        ("1" + ":1" * 3000, "a number of 6001 characters"),
        ("1" + ":1" * 3000 + ".0", "a number of 6003 characters"),
        ("a" * 1_000_001, "longer than 1000000"),
        ("a: [1, 2", "expected ',' or"),
        ("a\0b", "special characters"),
        (b"\xff\xfe\xff", "truncated data"),
    ],
)
def test_what_is_refused_at_once(text, found):
    begun = time.process_time()
    with pytest.raises(PlainYamlError, match=found):
        parse_yaml(text)
    assert time.process_time() - begun < 2


def test_errors_name_the_line():
    with pytest.raises(PlainYamlError) as error:
        parse_yaml("a: 1\nb: *a\n")
    assert error.value.line == 2
