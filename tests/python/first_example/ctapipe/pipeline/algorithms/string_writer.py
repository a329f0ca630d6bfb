from ctapipe.configuration.core import Configuration, ConfigurationException  # noqa: F401
from ctapipe.core import Component
from traitlets import Unicode


class StringWriter(Component):
    filename = Unicode("test.txt").tag(config=True)

    def init(self):
        self.file = open(self.filename, "w")
        self.log.info("--- StringWriter init ---")
        return True

    def run(self, object):
        if object is not None:
            self.file.write(str(object) + "\n")

    def finish(self):
        self.log.info("--- StringWriter finish ---")
        self.file.close()
