"""A plugin of pytest: puts drpipe's pools in the place of DIRAC's and pydidas' before their tests
are imported."""

import importlib.util
import os

if importlib.util.find_spec("DIRAC"):
    import drpipe.pool.dirac

    drpipe.pool.dirac.install()
if importlib.util.find_spec("pydidas"):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    import drpipe.pool.pydidas

    drpipe.pool.pydidas.install()
