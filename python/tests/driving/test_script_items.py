"""Items of classes that exist only in the driver's script."""

from runs import needs_program, python

pytestmark = needs_program

ITEMS = """
import collections, sys, threading
# With a thread, the script cannot be forked.
threading.Thread(target=threading.Event().wait, daemon=True).start()
sys.modules["cloudpickle"] = None
import drpipe

Star = collections.namedtuple("Star", "ra dec")

if __name__ == "__main__":
    drpipe.run([Star(1, 2)], tuple)
"""


def test_items_of_the_scripts_own_classes_need_cloudpickle_and_say_so(tmp_path):
    (tmp_path / "night.py").write_text(ITEMS)
    process = python(["night.py"], tmp_path)
    _, err = process.communicate()
    assert process.returncode == 1
    assert "put its class into a module, or install cloudpickle" in err
