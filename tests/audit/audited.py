"""`python -m audited <log> <home> <temporary folder> <module> <arguments>`: a module under audit, from here on."""

import os
import runpy
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    import sitecustomize

    log, home, temporary, module, *arguments = sys.argv[1:]
    os.environ |= {"AUDIT_LOG": log, "HOME": home, "TMPDIR": temporary}
    os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)  # torch says it to all that come after, if it is not said
    tempfile.tempdir = None
    if not hasattr(sitecustomize, "install"):  # another one was imported when this interpreter started
        del sys.modules["sitecustomize"]
        import sitecustomize
    sitecustomize.install(log)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
