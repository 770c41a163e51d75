"""Measures SiT-Keras beside other ways to do the same work, in turns, on this machine.

python -m benchmarks                  everything, which takes about an hour
python -m benchmarks step network     some figures
python -m benchmarks --quick          one round of small cases, to see that all of them run
"""

import argparse
import datetime
import json
import pathlib

from benchmarks import figures, report
from benchmarks.turns import take_turns


def main() -> None:
    """Measures the figures that are asked for, prints tables, and writes them and a chart."""
    names = figures.names()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="figures:\n" + "\n".join(f"  {name:14} {figures.title(name)}" for name in names),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help="what to measure (all)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (5)")
    parser.add_argument("--quick", action="store_true", help="one round of small cases")
    parser.add_argument("--case", help="only the cases whose name contains this")
    parser.add_argument(
        "--out", type=pathlib.Path, default="results/benchmarks", help="folder of the results"
    )
    parser.add_argument(
        "--device", choices=["cpu", "gpu"], default="cpu", help="what contenders run on (cpu)"
    )
    options = parser.parse_args()
    wanted = options.figures or names
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        parser.error(f"unknown figures {', '.join(unknown)}; choose from {', '.join(names)}")
    rounds = 1 if options.quick else options.rounds

    # Shares of the matrix rate need it.
    wanted = sorted({"matrix_rate", *wanted}, key=lambda name: (name != "matrix_rate", name))
    machine, found, said = report.machine(), {}, []

    def say(line):
        print(line, flush=True)
        said.append(line)

    print(machine["in_words"])
    for name in wanted:
        print(f"\n{name}: {figures.title(name)}", flush=True)
        contenders = figures.load(name).contenders(options.quick)
        if options.case and name != "matrix_rate":
            contenders = [c for c in contenders if options.case in c.case]
        rows = take_turns(contenders, rounds, say, options.device)
        found[name] = report.compared(rows, found.get("matrix_rate", {}))
        print(report.table(found[name]), *figures.summary(name, found[name]), sep="\n", flush=True)
        options.out.mkdir(parents=True, exist_ok=True)
        date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        results = {
            "date": date,
            "machine": machine,
            "device": options.device,
            "rounds": rounds,
            "left_out": said,
        }
        results["figures"] = found
        (options.out / "benchmarks.json").write_text(json.dumps(results, indent=1))
        (options.out / "benchmarks.md").write_text(
            report.page(results, figures.title, figures.summary)
        )
    report.chart(found, options.out / "benchmarks.png", figures.title)
    print(f"\nWritten to {options.out}: benchmarks.json, benchmarks.md and benchmarks.png.")


if __name__ == "__main__":
    main()
