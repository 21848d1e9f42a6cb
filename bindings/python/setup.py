# SPDX-License-Identifier: Apache-2.0
"""Put the built library into the wheel, and say in the wheel's name which machine it is for."""
import os
import pathlib
import shutil

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools before 70
    from wheel.bdist_wheel import bdist_wheel

HERE = pathlib.Path(__file__).resolve().parent
NAME = "libochre.so.1"


def built_library():
    """$OCHRE_LIBRARY, else what `./dev build` made."""
    given = os.environ.get("OCHRE_LIBRARY")
    found = pathlib.Path(given) if given else HERE.parent.parent / "build" / "release" / NAME
    if not found.exists():
        raise SystemExit(f"{found} is missing. Run ./dev build first, or set OCHRE_LIBRARY.")
    return found


class BuildWithLibrary(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:  # in place, the library is found in the build folder
            shutil.copyfile(built_library(), os.path.join(self.build_lib, "ochre", NAME))


class WheelForOneMachine(bdist_wheel):
    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


class WithLibrary(Distribution):
    def has_ext_modules(self):
        return True


setup(cmdclass={"build_py": BuildWithLibrary, "bdist_wheel": WheelForOneMachine},
      distclass=WithLibrary)
