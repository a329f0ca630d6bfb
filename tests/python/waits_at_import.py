"""A module whose import takes long."""

import os
import time

with open("importing.tmp", "w") as file:
    file.write(str(os.getpid()))
os.rename("importing.tmp", "importing")
end = time.monotonic() + 60
while time.monotonic() < end:
    time.sleep(0.01)


class Any:
    def run(self, msg):
        return msg
