import pytest

from weakseg.cli import main


@pytest.fixture
def weak(capsys):
    """Runs a command: its exit code, what it printed, what it complained of."""

    def weak(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return weak
