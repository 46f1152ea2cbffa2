"""Go pattern: `type result struct { value int; err error }`, so that each job has an error of its own.

See: a job that fails does not stop the others. A result has a value or an error; a future's result() raises it, with
the traceback of the line that failed on the worker.
"""

import traceback

import workerpool as wp


def parse(text: str) -> int:
    return int(text)


def main() -> None:
    texts = ["10", "twenty", "30", "", "50"]
    with wp.WorkerPool(max_workers=2) as pool:
        with pool.results() as results:
            for text in texts:
                results.submit(parse, text)
            results.close()
            for result in sorted(results, key=lambda result: result.index):
                outcome = result.value if result.ok else result.error  # Go: if r.err != nil
                print(f"{texts[result.index]!r}: {outcome!r}")

        future = pool.submit(parse, "twenty")
        try:
            future.result()
        except ValueError as error:
            failed = traceback.extract_tb(error.__traceback__)[-1]
            print(f"raised here, failed in {failed.name}(): {failed.line}")


if __name__ == "__main__":
    main()
