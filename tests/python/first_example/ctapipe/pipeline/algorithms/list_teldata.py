from ctapipe.core import Component


class ListTelda(Component):
    def init(self):
        self.log.info("--- ListTelda init ---")

    def run(self, event):
        if event is not None:
            return list(event.dl0.tels_with_data)

    def finish(self):
        self.log.info("--- ListTelda finish ---")
