import subprocess
import sys

import pytest

import weakseg


@pytest.mark.parametrize("name", weakseg.__all__)
def test_public_names_are_there(name):
    assert getattr(weakseg, name) is not None
    assert name in dir(weakseg)


def test_the_function_run_is_no_module():
    import weakseg.pipeline  # noqa: PLC0415

    assert callable(weakseg.run)
    assert callable(weakseg.check)
    assert callable(weakseg.evaluate)
    assert weakseg.pipeline.__name__ == "weakseg.pipeline"


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="'weakseg' has no attribute 'rum'"):
        _ = weakseg.rum


@pytest.mark.parametrize("module", ["weakseg", "weakseg.cli", "weakseg.api", "weakseg.types"])
def test_nothing_heavy_is_imported_before_it_is_used(module):
    code = (
        f"import sys, {module}\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'timm', 'rich', 'PIL', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == "[]"


def test_a_source_is_checked_without_torch():
    code = "import sys, weakseg.sources.check; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "False"
