"""Stands for the reader of simulated events: event n has data of telescopes 1 to n."""


class Level:
    def __init__(self, telescopes):
        self.tels_with_data = telescopes


class Event:
    def __init__(self, number):
        self.dl0 = Level(set(range(1, number + 1)))


def hessio_event_source(url, max_events=None):
    assert url.endswith("gamma_test.simtel.gz")
    for number in range(1, max_events + 1):
        yield Event(number)
