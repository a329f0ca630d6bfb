"""Building of instances from names and parameters, and descriptions of classes."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from drpipe.protocol.failures import SetupError
from drpipe.worker import build, describe
from drpipe.worker.schema import schema_of
from router import MAIN

STEPS = Path(__file__).parent / "steps"


@pytest.fixture(autouse=True)
def steps(monkeypatch):
    monkeypatch.syspath_prepend(str(STEPS))


def make(name, params, module="parameters"):
    return build.build(
        module,
        name,
        params,
        step="S",
        connections=["N"],
        send=print,
        set_priority=print,
        log="the log",
    )


def test_parameters_become_arguments_and_attributes():
    made = make("Arguments", {"path": "p", "depth": 5, "other": 1})
    assert (made.path, made.size, made.depth, made.other, made.parent) == ("p", 7, 5, 1, None)
    assert (made.name, made.log, made.connections, made.send_msg) == ("S", "the log", ["N"], print)
    data = make("Data", {"threshold": 3, "names": ["a"]})
    assert isinstance(data.threshold, float) and data.names == ["a"] and data.limit == 3
    assert make("Component", {}).given == (None, None)


def test_parameters_are_what_they_are_declared_to_be():
    parameters = pytest.importorskip("parameters")
    made = make("Annotated", {"gain": 2, "kind": "exact", "path": "a/b", "either": 3, "count": 4})
    assert isinstance(made.gain, float) and made.count == 4 and made.either == 3
    assert made.kind is parameters.Mode.EXACT and made.path == Path("a/b")


@pytest.mark.parametrize(
    ("name", "params", "text"),
    [
        ("Data", {}, 'the parameter "threshold" of Data is missing: give it'),
        ("Narrow", {"level": 2}, 'the parameter "level" of Narrow is refused: AttributeError'),
        ("Annotated", {"kind": "slow"}, 'the parameter "kind" of Annotated is refused: ValueError'),
        ("Anotated", {}, "did you mean 'Annotated'?"),
        ("NoRun", {}, "NoRun has no method run"),
        ("function", {}, "function in the module parameters is not a class"),
    ],
)
def test_what_cannot_be_built_says_why(name, params, text):
    with pytest.raises(SetupError) as error:
        make(name, params)
    assert text in str(error.value)


def test_a_class_without_room_for_attributes_is_left_alone():
    assert make("Slots", {"level": 3}).run(1) == 3


def test_traits_are_set_and_checked():
    pytest.importorskip("traitlets")
    made = make("Cleaner", {"level": 4, "pair": [3, 4], "extra": "e"}, "traits")
    made.log = made.log
    assert made.run(0) == [4.0, 3, (3, 4), "e"]
    assert made.name == "S" and made.log != "the log"
    with pytest.raises(SetupError, match="the configuration of Cleaner is refused: TraitError"):
        make("Cleaner", {"count": "many"}, "traits")


WHOLE = {
    "sections": {"Telescope": {"size": 4, "Mirror": {"facets": 7}}, "Mirror": {"color": "red"}},
    "rest": {"version": 1},
    "settings": [["Lid.open", "False"], ["Telescope.Mirror.facets", "9"]],
}


@pytest.mark.parametrize("name", ["Telescope", "ByParent", "ByConfig", "ByTool", "Closed"])
def test_a_class_of_traitlets_takes_the_whole_configuration(name):
    pytest.importorskip("traitlets")
    whole = {**WHOLE, "sections": {**WHOLE["sections"], name: WHOLE["sections"]["Telescope"]}}
    if name != "Telescope":
        whole["settings"] = [["Lid.open", "False"], [f"{name}.Mirror.facets", "9"]]
    params = {"size": 5, "own": 3}
    made = build.build(
        "helpers",
        name,
        params,
        step="S",
        connections=[],
        send=print,
        set_priority=print,
        log=None,
        whole=whole,
    )
    made.init()
    assert (made.size, made.own) == (5, 3)
    assert (made.mirror.facets, made.mirror.color, made.lid.open) == (9, "red", False)
    assert made.config["Mirror"]["color"] == "red" and made.config["version"] == 1
    if name != "Closed":
        assert made.size_at_first == 5


def test_the_sections_of_helpers_are_known():
    traits = pytest.importorskip("drpipe.worker.traitlets_config")
    pytest.importorskip("traitlets")
    import helpers

    known = traits.sections()
    assert known["Mirror"] == ["color", "facets"] and known["Lid"] == ["open"]
    assert "Configurable" not in known
    for param, text, value in [
        ("size", "5", 5),
        ("flag", "False", False),
        ("names", "['a', 'b']", ["a", "b"]),
        ("pair", "(1, 2)", [1, 2]),
        ("title", "5", "5"),
        ("Mirror.facets", "3", 3),
        ("size", "many", "many"),
        ("other", "1", None),
    ]:
        assert traits.read(helpers.Telescope, [(param, text)]) == [value], param
    said = [("names", "a"), ("size", "1"), ("names", "b")]
    assert traits.read(helpers.Telescope, said) == [["a"], 1, ["a", "b"]]


def test_what_helpers_do_not_take_is_known_before_the_run():
    traits = pytest.importorskip("drpipe.worker.traitlets_config")
    pytest.importorskip("traitlets")
    importlib.import_module("helpers")
    whole = {
        "sections": {
            "Mirror": {"facets": "many", "color": "red"},
            "Telescope": {"size": "own", "Mirror": {"facets": 1.5}},
            "Other": {"facets": "many"},
        },
        "settings": [["Lid.open", "ajar"], ["Mirror.facets", "3"], ["Telescope.size", "x"]],
    }
    found = dict(traits.refused(whole, ["Telescope"]))
    assert sorted(found) == ["Lid.open", "Mirror.facets", "Telescope.Mirror.facets"]
    assert found["Mirror.facets"] == "found 'many'; expected an int"


def test_a_class_that_is_only_iterated_over_is_a_producer():
    made = build.build(
        "parameters",
        "Source",
        {"last": 2},
        step="S",
        connections=[],
        send=None,
        set_priority=None,
        log=None,
    )
    assert list(made.run()) == [0, 1, 2]
    made.finish()
    assert made.is_closed
    answer = describe.answer({"classes": [{"module": "parameters", "class": "Source"}]})
    assert answer["classes"][0]["ok"]["kind"] == "producer"


def test_a_class_may_check_its_parameters_before_the_run():
    wanted = {"module": "parameters", "class": "Switch", "step": "S", "next_steps": ["A", "B"]}
    for params, settings, invalid in [
        ({"even": "A", "odd": "B"}, [], None),
        ({"even": "A", "odd": "C"}, [], "odd says C, which is none of A, B"),
        ({"even": "A", "odd": "C"}, [["odd", "B"]], None),
    ]:
        entry = {**wanted, "params": params, "settings": settings}
        answer = describe.answer({"classes": [entry]})
        assert answer["classes"][0]["ok"]["invalid"] == invalid


def test_the_schema_of_annotations():
    import parameters

    schema = schema_of(parameters.Annotated)
    assert schema["properties"] == {
        "gain": {"type": "number", "default": 1.5},
        "count": {"type": "integer"},
        "title": {"type": ["string", "null"], "default": None},
        "flags": {"type": "array", "items": {"type": "boolean"}, "default": [True]},
        "table": {"type": "object", "default": {}},
        "mode": {"enum": ["a", "b"], "default": "a"},
        "kind": {"enum": ["fast", "exact"]},
        "path": {"type": ["string", "null"], "default": None},
        "either": {"type": ["integer", "string"], "default": 1},
        "anything": {"default": None},
        "factor": {"type": "number", "default": 2},
        "label": {"type": "string", "default": "x"},
    }
    assert schema["required"] == []


def test_the_schema_of_arguments():
    import parameters

    assert schema_of(parameters.Data) == {
        "type": "object",
        "properties": {
            "threshold": {"type": "number"},
            "names": {"type": "array", "items": {"type": "string"}},
            "limit": {"type": "integer", "default": 3},
        },
        "required": ["threshold"],
    }
    assert schema_of(parameters.Arguments) == {
        "type": "object",
        "properties": {
            "path": {},
            "size": {"type": "number", "default": 7},
            "depth": {"type": "integer", "default": 2},
        },
        "required": ["path"],
    }


def test_the_schema_of_traits():
    traits = pytest.importorskip("traits")
    assert schema_of(traits.Cleaner)["properties"] == {
        "level": {"type": "number", "minimum": 0, "default": 2.5, "description": "the level [adu]"},
        "count": {"type": "integer", "maximum": 9, "default": 3},
        "title": {"type": ["string", "null"], "default": None},
        "mode": {"enum": ["a", "b"], "default": "a"},
        "sizes": {"type": "array", "items": {"type": "number"}, "default": [1.0]},
        "pair": {"type": "array"},
        "table": {"type": "object", "default": {}},
        "casts": {"default": 1},
        "own": {"type": "boolean", "default": True},
    }


def probe(request):
    request = {"paths": [str(STEPS)], **request}
    done = subprocess.run(
        [sys.executable, str(MAIN), "--describe"],
        input=json.dumps(request).encode(),
        capture_output=True,
        check=True,
    )
    return json.loads(done.stdout), done.stderr.decode()


def test_the_probe_describes_classes_and_survives_what_modules_do(tmp_path):
    (tmp_path / "loud.py").write_text("print('hello')\nclass Loud:\n    def run(self): 'x'\n")
    (tmp_path / "needs.py").write_text("import drpipe\nimport nowhere.there\n")
    (tmp_path / "exits.py").write_text("import sys\nsys.exit('no licence')\n")
    (tmp_path / "broken.py").write_text("class Broken(:\n")
    wanted = [
        ("loud", "Loud"),
        ("parameters", "Arguments"),
        ("parameters", "Annotated"),
        ("needs", "X"),
        ("exits", "X"),
        ("broken", "X"),
        ("absent", "X"),
        ("parameters", "Datum"),
    ]
    classes = [{"module": module, "class": name, "params": None} for module, name in wanted]
    answer, printed = probe({"classes": classes, "paths": [str(tmp_path), str(STEPS)]})
    assert answer["missing"] == [] and answer["executable"] == sys.executable
    assert answer["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")
    loud, arguments, annotated, needs, exits, broken, absent, datum = answer["classes"]
    assert "hello" in printed and loud["ok"]["kind"] is None
    assert (arguments["ok"]["kind"], arguments["ok"]["single"]) == ("producer", True)
    assert annotated["ok"]["doc"] == "Has annotations." and annotated["ok"]["gathers"]
    assert needs["error"]["what"] == "import"
    assert needs["error"]["message"] == "ModuleNotFoundError: No module named 'nowhere'"
    assert needs["error"]["hint"].endswith("-m pip install nowhere")
    assert "needs.py" in needs["error"]["traceback"]
    assert "importlib" not in needs["error"]["traceback"]
    assert exits["error"]["message"] == "SystemExit: no licence"
    assert broken["error"]["message"].startswith("SyntaxError: ")
    assert absent["error"]["what"] == "module" and "pythonpath" in absent["error"]["hint"]
    assert datum["error"]["what"] == "class" and "Data" in datum["error"]["known"]


def test_the_probe_lists_what_a_module_offers():
    answer, _ = probe({"list": "parameters"})
    names = [entry["name"] for entry in answer["classes"]]
    assert names == ["Annotated", "Data", "Arguments", "Component", "Slots", "Narrow", "Switch"]
    assert all("schema" in entry["ok"] for entry in answer["classes"])
    answer, _ = probe({"list": "absent"})
    assert answer["classes"][0]["error"]["what"] == "module"


def test_the_package_imports_nothing_that_is_not_asked_for():
    code = "import drpipe, sys; print([m for m in ('zmq', 'numpy', 'msgpack') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=MAIN.parent, check=True
    )
    assert done.stdout.decode().strip() == "[]"
    assert (
        describe.describe(build.find_class(build.import_module("styles"), "Odd"))["kind"] == "stage"
    )
