"""Compiles Triton's driver module into `TRITON_CACHE_DIR`, where Triton finds it at run time.

Run while an image is built, where there is a C compiler and no GPU. `TRITON_LIBCUDA_PATH` is
part of the name under which Triton keeps the module: it must be the same at run time.
"""

import os
import re
import subprocess
import sysconfig
from pathlib import Path

from triton.backends.nvidia import driver
from triton.runtime.build import compile_so_from_file

SOURCE = Path(driver.__file__).with_name("driver.c")


def main() -> None:
    make_stand_in(Path(os.environ["TRITON_LIBCUDA_PATH"]))
    compile_so_from_file(
        str(SOURCE),
        "cuda_utils",
        library_dirs=driver.library_dirs(),
        include_dirs=driver.include_dirs,
        libraries=driver.libraries,
    )


def make_stand_in(folder: Path) -> None:
    """A libcuda.so.1 to link against, with every function that the module calls.

    Without them some linkers drop the library, and the module would not load later.
    """
    folder.mkdir(parents=True, exist_ok=True)
    includes = [*driver.include_dirs, sysconfig.get_paths()["include"]]
    compiled, stubs = folder / "driver.o", folder / "stubs.c"
    run("gcc", "-c", "-fPIC", "-o", compiled, *(f"-I{path}" for path in includes), SOURCE)
    names = re.findall(r"\bU (cu\w+)", run("nm", "--undefined-only", compiled))
    stubs.write_text("".join(f"int {name}(void) {{ return 1; }}\n" for name in names))
    library = folder / "libcuda.so.1"
    run("gcc", "-shared", "-fPIC", f"-Wl,-soname,{library.name}", "-o", library, stubs)


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
