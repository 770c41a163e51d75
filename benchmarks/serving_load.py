"""A server under load: several clients at once, by gRPC and by REST, over the wire.

python -m benchmarks.serving_load                                      the tests' stand-in, here
python -m benchmarks.serving_load --rest=HOST:8501 --grpc=HOST:8500    a server that is running

Each client sends one request after the other, as `sit-keras client` does, with a connection for
each. The clients are threads of this process, and the photos are JPEGs of 640 x 480 pixels. Without
an address it exports `native32` with new weights and serves it from a process of its own, by
TensorFlow's C++ loader: without the batching that TF Serving has, and from Python. Exits with 1 if
a request fails.
"""

import argparse
import contextlib
import pathlib
import statistics
import sys
import tempfile
import threading
import time

from benchmarks import report
from benchmarks.of.serving import PRESET, photos
from sit_keras.serving.by_grpc import predict_grpc
from sit_keras.serving.by_rest import predict_rest

ROOT = pathlib.Path(__file__).parent.parent
PREDICT = {"gRPC": predict_grpc, "REST": predict_rest}


def main() -> None:
    """Prints a row for each protocol and number of files."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving_load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rest", metavar="HOST:PORT", help="a server's address for REST")
    parser.add_argument("--grpc", metavar="HOST:PORT", help="a server's address for gRPC")
    parser.add_argument("--label", help="the version's label, such as stable (the newest version)")
    parser.add_argument("--clients", type=int, default=8, help="clients at once (8)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each row (6)")
    parser.add_argument("--files", type=int, nargs="+", default=[1, 8], help="a request (1 and 8)")
    options = parser.parse_args()
    given = {"gRPC": options.grpc, "REST": options.rest}
    print(f"{report.machine()['in_words']}; {options.clients} clients")
    print("| by | files in a request | requests/s | images/s | p50, ms | p99, ms | failed |")
    print("|---|---|---|---|---|---|---|")
    failures = []
    with _addresses(given) as addresses:
        for protocol, address in addresses.items():
            for count in options.files:

                def ask(files, predict=PREDICT[protocol], address=address):
                    return predict(address, "sit", "serving_bytes", files, label=options.label)

                times, failed, seconds = load(ask, count, options.clients, options.seconds)
                print(row(protocol, count, times, failed, seconds), flush=True)
                failures += failed
    for text in sorted(set(failures))[:5]:
        print(f"failed: {text}", file=sys.stderr)
    sys.exit(bool(failures))


@contextlib.contextmanager
def _addresses(given):
    """Yields the addresses by protocol: those given, or of a server that is started."""
    given = {protocol: address for protocol, address in given.items() if address}
    if given:
        yield given
        return
    sys.path.append(str(ROOT / "tests"))
    from stand_in_process import stand_in

    from sit_keras.models.backbone import SiTBackbone
    from sit_keras.serving.export import export

    with tempfile.TemporaryDirectory() as folder:
        encoder, versions = (
            pathlib.Path(folder) / "encoder.keras",
            pathlib.Path(folder) / "versions",
        )
        SiTBackbone.from_preset(PRESET, load_weights=False).save(encoder)
        export(encoder, versions, check=False)
        with stand_in(ROOT / "serving" / "models.config", versions) as (_, grpc, rest):
            yield {"gRPC": grpc, "REST": rest}


def load(ask, count: int, clients: int, seconds: float) -> tuple[list[float], list[str], float]:
    """Lets clients ask at once.

    Args:
        ask: sends one request with a list of files, and raises OSError if it fails.
        count: int. Files in a request.
        clients: int.
        seconds: float. No request begins later than this.

    Returns:
        The seconds of each request that was answered, the reasons of those that failed, and the
        seconds from the first request to the last reply.
    """
    files = photos(count)
    ask(files)
    times, failed = [], []
    begin = time.perf_counter()

    def client():
        while (start := time.perf_counter()) - begin < seconds:
            try:
                outputs = ask(files)
                if not outputs["ok"].all():
                    raise OSError(f"refused: {outputs['error'][0]}")
            except OSError as error:
                failed.append(str(error))
            else:
                times.append(time.perf_counter() - start)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, failed, time.perf_counter() - begin


def row(protocol: str, count: int, times: list[float], failed: list[str], seconds: float) -> str:
    """Returns a row of the table."""
    if len(times) < 2:
        return f"| {protocol} | {count} | 0 | 0 |  |  | {len(failed)} |"
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    rate = len(times) / seconds
    return (
        f"| {protocol} | {count} | {rate:.1f} | {rate * count:.1f} | {1e3 * cuts[49]:.0f} | "
        f"{1e3 * cuts[98]:.0f} | {len(failed)} |"
    )


if __name__ == "__main__":
    main()
