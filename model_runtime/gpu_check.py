"""Is this CUDA machine fit for the server's fast path? `make gpu-check`, a few minutes.

Prints a line per check, PASS or FAIL with numbers, and at the end all of it as one line of JSON.
Ends with 0 if everything passed, 1 if something failed, 2 if the machine cannot be checked.
"""

import importlib.util
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

Result = dict[str, Any]

TIME_LIMIT_S = 120  # of one check
NEEDS = "This check needs a CUDA device, torch built for CUDA, and triton >= 3.6."


def main() -> int:
    if missing := _missing():
        print(f"{NEEDS}\nMissing here: {missing}.")
        return 2
    results = _run_all(list(_checks()))
    print(json.dumps({**_machine(), "checks": results}))
    return 0 if all(result["passed"] for result in results.values()) else 1


def _run_all(names: list[str]) -> dict[str, Result]:
    """Run the checks in a process of their own, and in a new one after each failure.

    A kernel that reads beyond its memory spoils the device for its process, and a kernel may hang.
    """
    processes = multiprocessing.get_context("spawn")
    results: dict[str, Result] = {}
    pool = processes.Pool(1)
    for name in names:
        try:
            results[name] = pool.apply_async(_run, (name,)).get(TIME_LIMIT_S)
        except multiprocessing.TimeoutError:
            results[name] = {"passed": False, "error": f"no answer in {TIME_LIMIT_S} s"}
        _print(name, results[name])
        if not results[name]["passed"]:
            pool.terminate()
            pool = processes.Pool(1)
    pool.terminate()
    return results


def _run(name: str) -> Result:
    """The numbers of one check. Whatever goes wrong in it is its failure, told in words: not all
    exceptions can travel between processes.
    """
    torch.manual_seed(0)
    start = time.perf_counter()
    try:
        with torch.inference_mode():
            numbers = _checks()[name](torch.device("cuda"))
            torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except Exception as error:
        return {"passed": False, "error": f"{type(error).__name__}: {error}"}
    return {"passed": True, "seconds": round(time.perf_counter() - start, 1), **numbers}


def _checks() -> dict[str, Callable[[torch.device], dict[str, float]]]:
    """All checks by name. Imported late: these modules need triton."""
    from model_runtime.kernels.checks import CHECKS
    from model_runtime.kernels.speed import MEASUREMENTS

    return {**CHECKS, **MEASUREMENTS}


def _print(name: str, result: Result) -> None:
    verdict = "PASS" if result["passed"] else "FAIL"
    facts = [f"{key}={_brief(value)}" for key, value in result.items() if key != "passed"]
    print(f"{verdict}  {name:<28}", *facts, flush=True)


def _brief(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _missing() -> str | None:
    if not torch.version.cuda:
        return f"a CUDA build of torch (this is {torch.__version__})"
    if not torch.cuda.is_available():
        return "a CUDA device that torch can use"
    if importlib.util.find_spec("triton") is None:
        return "triton"
    if os.environ.get("TRITON_INTERPRET", "0") != "0":
        return "compiled kernels (unset TRITON_INTERPRET)"
    return None


def _machine() -> dict[str, str]:
    major, minor = torch.cuda.get_device_capability()
    return {
        "device": torch.cuda.get_device_name(),
        "capability": f"{major}.{minor}",
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "triton": importlib.import_module("triton").__version__,
    }


if __name__ == "__main__":
    sys.exit(main())
