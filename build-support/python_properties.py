"""Prints, as -D options for Maven, where the JUnit tests find this Python, its library and its jep."""

import sys
import sysconfig
from pathlib import Path


def libpython() -> str:
    """The shared library of this Python, or nothing where it has none: a static Python cannot be embedded."""
    config = sysconfig.get_config_vars()
    folders = [config.get("LIBDIR"), f"{config.get('LIBDIR')}/{config.get('MULTIARCH')}"]
    names = [config.get("INSTSONAME"), f"libpython{config.get('LDVERSION')}.so.1.0"]
    for path in (Path(folder, name) for folder in folders for name in names if folder and name):
        if ".so" in path.name and path.is_file():
            return str(path)
    return ""


packages = Path(sysconfig.get_path("platlib"))
properties = {
    "jep.jar": next(packages.glob("jep/jep-*.jar")),
    "jep.library": packages / "jep/libjep.so",
    "python.executable": sys.executable,
    "python.library": libpython(),
}
print(" ".join(f"-D{name}={value}" for name, value in properties.items()))
