"""Steps that do what a transcript of the conformance suite tells them to.
`tests/conformance/worker.rs` has the same in Rust."""

import os
import resource
import socket

import drpipe


def use_up_descriptors():
    """Opens files until the process may not open another one. libzmq needs its limit to stay
    above what it has open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        while True:
            os.open(os.devnull, os.O_RDONLY)
    except OSError:
        pass


class Scripted:
    #: The socket on which the test waits for those that wait for it.
    gate = ""
    at_init = []
    #: What each call of the producer does.
    calls = []
    at_finish = []

    def init(self):
        self.perform(self.at_init)

    def finish(self):
        self.perform(self.at_finish)

    def perform(self, actions):
        """Does what a script says. Returns what a producer's call yields."""
        said = None
        for action in actions:
            if action == "idle":
                said = drpipe.IDLE
            elif action == "barrier":
                said = drpipe.BARRIER
            elif action == "use_up_descriptors":
                use_up_descriptors()
            else:
                ((kind, argument),) = action.items()
                getattr(self, "do_" + kind)(argument)
        return said

    def do_send(self, text):
        self.send_msg(text)

    def do_send_long(self, length):
        self.send_msg("x" * length)

    def do_send_to(self, step_and_text):
        step, text = step_and_text
        self.send_msg(text, step)

    def do_set_priority(self, priority):
        self.set_priority(priority)

    def do_pass(self, array):
        self.send_msg(array)

    def do_make(self, size):
        import numpy as np

        self.send_msg((np.arange(size) % 251).astype(np.uint8))

    def do_announce(self, path):
        drpipe.product(path)

    def do_count(self, name_and_outcome):
        drpipe.count_action(*name_and_outcome)

    def do_wait(self, name):
        with socket.socket(socket.AF_UNIX) as gate:
            gate.connect(self.gate)
            gate.sendall(name.encode() + b"\n")
            gate.recv(1)

    def do_fail(self, text):
        raise ValueError(text)

    def do_defer(self, why):
        raise drpipe.Deferred(why)

    def do_defer_for(self, wait_and_why):
        wait, why = wait_and_why
        raise drpipe.Deferred(why, wait=wait / 1000)

    def do_fail_for_good(self, text):
        raise drpipe.Permanent(text)

    do_panic = do_fail


class ScriptedProducer(Scripted):
    expected = None

    def run(self):
        for actions in self.calls:
            yield self.perform(actions)


class ScriptedTold(ScriptedProducer):
    """Says in `finish` what it was told of its items."""

    acknowledges = True

    def init(self):
        super().init()
        self.told = []

    def acknowledge(self, items):
        for item in items:
            text = f"{item.number} is {item.outcome}"
            if item.outcome == "done":
                text += f": {', '.join(item.results)}"
            elif item.outcome == "failed":
                text = f"{item.number} {item.origin} has failed in {item.step}: {item.reasons[0]}"
            self.told.append(text)

    def finish(self):
        for text in self.told:
            self.send_msg(text)


class ScriptedStage(Scripted):
    def run(self, script):
        self.perform(script)
