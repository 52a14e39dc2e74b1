import io

from rich.console import Console

from weakseg.progress import track


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def shown(total, steps, *, done=0, seconds=1.0, **fields):
    clock, out = Clock(), io.StringIO()
    console = Console(file=out, width=40)
    with track(console, "cams", total, done=done, clock=clock) as advance:
        for _ in range(steps):
            clock.now += seconds
            advance(**fields)
    return out.getvalue().splitlines()


def test_lines_come_every_thirty_seconds_and_at_the_end():
    lines = shown(100, 100, loss=0.12345)
    assert len(lines) == 4
    assert lines[0] == "cams  30/100  images/s 1  loss 0.123  1:10 left"
    assert lines[-1] == "cams  100/100  images/s 1  loss 0.123"


def test_earlier_work_is_no_speed():
    assert shown(1000, 30, done=900, seconds=2.0)[-1] == "cams  930/1000  images/s 0.5  2:20 left"


def test_a_field_replaces_the_speed():
    assert "images/s 7" in shown(1, 1, **{"images/s": 7})[0]


def test_markup_in_labels_is_plain_text():
    out = io.StringIO()
    with track(Console(file=out), "[red]x[/]", 1) as advance:
        advance()
    assert out.getvalue().startswith("[red]x[/]  1/1")


def test_no_work_at_all():
    assert shown(0, 0) == []


def test_a_terminal_gets_a_bar():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    with track(console, "cams", 4, done=1) as advance:
        for _ in range(3):
            advance(loss=0.5)
    text = out.getvalue()
    assert "4/4" in text
    assert "loss 0.5" in text
