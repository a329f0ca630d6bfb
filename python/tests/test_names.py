"""Names of classes that users and pickles know, wherever the files are."""

import pickle

import pytest

import drpipe
from drpipe.api.decoding import decoder
from drpipe.protocol import pickles, session_pickles


def test_a_pickle_that_an_earlier_version_has_left_in_a_quarantine_is_loaded():
    stream = b"cdrpipe.frames\nFitsPath\n(Vnight/a.fits\ntR."
    header = pickles.header("drpipe.frames.FitsPath", stream, [])
    assert decoder().decode(header) == drpipe.FitsPath("night/a.fits")


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        (b"drpipe.failures\nPermanent", drpipe.Permanent),
        (b"drpipe.errors\nConfigError", drpipe.ConfigError),
    ],
)
def test_an_exception_that_an_earlier_version_has_left_in_a_quarantine_is_loaded(name, cls):
    header = pickles.header("an exception", b"c" + name + b"\n(Vbad\ntR.", [])
    error = decoder().decode(header)
    assert type(error) is cls and error.args == ("bad",)


def test_exceptions_have_the_names_that_users_know_wherever_their_files_are():
    values = [getattr(drpipe, name) for name in drpipe.__all__]
    public = [
        value for value in values if isinstance(value, type) and issubclass(value, BaseException)
    ]
    assert sorted(f"{cls.__module__}.{cls.__qualname__}" for cls in public) == [
        "drpipe.errors.ConfigError",
        "drpipe.errors.DrpipeError",
        "drpipe.errors.NotCarried",
        "drpipe.errors.ProgramNotFound",
        "drpipe.errors.RunError",
        "drpipe.errors.RunFailed",
        "drpipe.errors.RunInterrupted",
        "drpipe.errors.RunStopped",
        "drpipe.failures.Deferred",
        "drpipe.failures.Permanent",
    ]
    assert pickle.loads(pickle.dumps(public)) == public
    assert session_pickles.loads(session_pickles.dumps_with_code(public)) == public
