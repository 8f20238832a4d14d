"""The `hypertower` command: one word per step of the data path.

Exit 0 done, 1 failed (one sentence on stderr), 2 wrong usage. Only the answer goes to stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from .errors import HypertowerError, os_sentence

_EPILOG = """\
the data path:
  hypertower schema events.csv --items items.csv > my.toml   draft a config from data
  hypertower train my.toml --out runs/my                     train, measure, export
  hypertower recommend runs/my --user 196 --context hour=21  ask it
  hypertower serve runs/my                                   serve it over HTTP
"""


def _pairs(texts: Sequence[str], kinds: dict[str, str]) -> dict[str, Any]:
    """NAME=VALUE texts as a dict. The schema says what a value is: 01234 of a category keeps its
    zero, and a comma separates only where a feature holds several values."""
    out: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        kind = kinds.get(name, "category")  # the model names the nearest field of an unknown one
        if kind in ("category", "categories"):
            out[name] = value.split(",") if kind == "categories" else value
        else:
            numbers = [_scalar(part) for part in value.split(",")]
            out[name] = numbers if kind == "vector" else _scalar(value)
    return out


def _scalar(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _name_value(text: str) -> str:
    name, equals, _ = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got '{text}'")
    return text


def _repeat_options(arguments: Sequence[str]) -> list[str]:
    """`--context a=1 b=2 MODEL` as `--context a=1 --context b=2 MODEL`: argparse alone would take
    MODEL for one more pair."""
    out: list[str] = []
    option = ""
    for word in arguments:
        if word in ("--context", "--feature"):
            option = word
            out.append(word)
            continue
        if option and out[-1] != option and "=" in word and not word.startswith("-"):
            out.append(option)
        elif option and out[-1] != option:
            option = ""
        out.append(word)
    return out


def _usage(message: str) -> int:
    print(f"hypertower: {message}", file=sys.stderr)
    return 2


def _print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2, default=str)
    print()


def _run_program(name: str, arguments: Sequence[str]) -> int:
    """Becomes the compiled program, so that signals and exit codes are its own."""
    from .doctor import program

    path = program(name)
    if path is None:
        print(f"hypertower: {name} is not installed here; 'hypertower doctor' tells the cure.",
              file=sys.stderr)
        return 1
    os.execv(path, [path, *arguments])


def train_program() -> int:
    """The command hypertower-train."""
    return _run_program("hypertower-train", sys.argv[1:])


def server_program() -> int:
    """The command hypertower-server."""
    return _run_program("hypertower-server", sys.argv[1:])


def _bench(arguments: Sequence[str]) -> int:
    """Runs scripts/bench of the checkout that this package or the working directory lies in."""
    from pathlib import Path

    for place in (Path(__file__).absolute(), Path.cwd() / "here"):
        for folder in place.parents:
            script = folder / "scripts" / "bench"
            if script.is_file() and (folder / "kernels" / "topk.h").is_file():
                os.execv(script, [str(script), *arguments])
    print("hypertower: benchmarks run from a checkout of the project, and neither this package nor "
          "the working directory lies in one.", file=sys.stderr)
    return 1


def _recommend(args: argparse.Namespace) -> int:
    from .recommender import Recommender

    request: dict[str, Any] = {}
    if args.user is not None:
        request["user"] = args.user
    if args.time is not None:
        request["time"] = args.time
    if args.history:
        request["history"] = [{"item": item} for item in args.history]
    where = None
    if args.where:
        try:
            where = json.loads(args.where)
        except json.JSONDecodeError as e:
            return _usage(f"--where: expected JSON like '{{\"genre\": [\"Comedy\"]}}', got "
                          f"'{args.where}' ({e})")
    rec = Recommender.from_pretrained(args.model)
    for key, group, pairs in (("context", "context", args.context),
                              ("features", "user", args.feature)):
        if pairs:
            request[key] = _pairs(pairs, {f["name"]: f["kind"] for f in rec.schema_["features"]
                                          if f["group"] == group})
    ids, scores = rec.recommend([request], args.k, exclude_seen=args.exclude_seen, where=where)
    found = [(i, float(s)) for i, s in zip(ids[0], scores[0], strict=True) if i is not None]
    if args.json:
        _print_json([{"id": i, "score": s} for i, s in found])
    else:
        for item, score in found:
            print(f"{item}\t{score:.6g}")
    return 0


def _table(rows: dict[str, dict[str, float]]) -> str:
    """Metrics of the model and its baselines, one row each; the one best of a column is starred."""
    names = [n for n in next(iter(rows.values())) if "@" in n]
    width = max(len(r) for r in rows) + 2
    best = {}
    for n in names:
        values = sorted(r[n] for r in rows.values() if n in r)
        best[n] = values[-1] if len(values) > 1 and values[-1] > values[-2] else None
    lines = [" " * width + "".join(f"{n:>14}" for n in names)]
    for label, metrics in rows.items():
        cells = ""
        for n in names:
            star = "*" if metrics.get(n) == best[n] else " "
            cells += f"{metrics[n]:>13.4f}{star}" if n in metrics else f"{'-':>14}"
        lines.append(f"{label:<{width}}{cells}")
    return "\n".join(lines)


def _evaluate(args: argparse.Namespace) -> int:
    from .recommender import Recommender

    rec = Recommender.from_pretrained(args.model)
    metrics = rec.evaluate(args.events, by=args.by)
    if args.json:
        _print_json(metrics)
        return 0
    print(f"{metrics['events']} events, {metrics['unknown_items']} of items that the model does "
          "not know (each counts as a miss)\n")
    rows = {"model": {k: v for k, v in metrics.items() if isinstance(v, float)}}
    rows.update(metrics.get("baselines", {}))
    print(_table(rows))
    for value, part in metrics.get("by", {}).items():
        if value == next(iter(metrics["by"])):
            print(f"\nby {args.by}")
        print(f"{value:<12}" + "  ".join(f"{k} {v:.4f}" for k, v in part.items()
                                         if isinstance(v, float)))
    return 0


def _inspect(args: argparse.Namespace) -> int:
    from . import inspect

    facts = inspect(args.model)
    if args.json:
        _print_json(facts)
        return 0
    for key, value in facts.items():
        text = json.dumps(value, default=str) if isinstance(value, (dict, list)) else str(value)
        print(f"{key}: {text if len(text) <= 400 else text[:397] + '...'}")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from .doctor import examine

    findings = examine()
    if args.json:
        _print_json([vars(f) for f in findings])
    else:
        for f in findings:
            mark = {True: "ok", False: "XX", None: "  "}[f.ok]
            cure = f"  -> {f.cure}" if f.cure else ""
            print(f"{mark} {f.what:<18} {f.value}{cure}")
    return 1 if any(f.ok is False for f in findings) else 0


def _synth(args: argparse.Namespace) -> int:
    from .progress import wanted
    from .synth import synth

    truth = synth(args.out, events=args.events, users=args.users, items=args.items,
                  context=args.context_strength, sharpness=args.sharpness, seed=args.seed,
                  progress=wanted())
    if args.json:
        _print_json(truth)
    else:
        for key, value in truth.items():
            print(f"{key}: {value:.4f}" if isinstance(value, float) else f"{key}: {value}")
    return 0


def _schema(args: argparse.Namespace) -> int:
    from .draft import draft_config

    print(draft_config(args.events, args.items, args.users), end="")
    return 0


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number like 60000 or 1e6, got '{text}'") \
            from None


def _count(text: str) -> int:
    value = _number(text)
    if not 1 <= value <= 2**53 or value != int(value):
        raise argparse.ArgumentTypeError(f"expected a count such as 60000 or 1e6, got '{text}'")
    return int(value)


def _parser() -> argparse.ArgumentParser:
    style = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(
        prog="hypertower", description="Recommendations for a person in a moment.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    from . import __version__

    parser.add_argument("--version", action="version", version=f"hypertower {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, text: str, run: Any, json_option: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, formatter_class=style)
        sub.set_defaults(run=run)
        if json_option:
            sub.add_argument("--json", action="store_true", help="machine-readable answer")
        return sub

    commands.add_parser("train", add_help=False, help="train, measure and export a model")
    commands.add_parser("serve", add_help=False, help="serve a model directory over HTTP")
    commands.add_parser("bench", add_help=False,
                        help="topk|embedding|loss|serve [--quick] [--json FILE]: from a checkout, "
                             "against peers and the limits of the machine")

    p = add("evaluate", "Exact metrics of a model on events, baselines beside it.", _evaluate)
    p.epilog = ("Baselines: popularity and recent popularity, as of training. Item-kNN needs the "
                "training events, so only 'hypertower train' measures it.")
    p.add_argument("model", help="model directory")
    p.add_argument("events", help="events file (CSV, CSV.gz, Parquet)")
    p.add_argument("--by", help="also per value of a feature, such as context.hour")

    p = add("recommend", "The best items for a person in a moment.", _recommend)
    p.add_argument("model", help="model directory")
    p.add_argument("--user", help="user id")
    p.add_argument("--time", type=_number, help="seconds since 1970 UTC; default now")
    p.add_argument("--context", action="append", type=_name_value, metavar="NAME=VALUE",
                   help="moment features, such as hour=21; several: hour=21 sky=rain")
    p.add_argument("--feature", action="append", type=_name_value, metavar="NAME=VALUE",
                   help="user features given for this request; of several values a,b")
    p.add_argument("--history", nargs="+", metavar="ITEM",
                   help="items of this person, oldest first (after MODEL); replaces the stored "
                        "history")
    p.add_argument("-k", type=int, default=10, help="number of items")
    p.add_argument("--where", help="filter as JSON, such as '{\"genre\": [\"Comedy\"]}'")
    p.add_argument("--exclude-seen", action=argparse.BooleanOptionalAction, default=None,
                   help="leave out items of the history (default: as the data suggested)")

    p = add("inspect", "What a model directory holds, without loading it.", _inspect)
    p.add_argument("model", help="model directory")

    add("doctor", "Is everything there, and does it fit together?", _doctor)

    p = add("synth", "Write data with a known truth: the best reachable recall is known.", _synth)
    p.add_argument("out", help="folder to write to")
    p.add_argument("--events", type=_count, default=60_000, help="number of events")
    p.add_argument("--users", type=_count, default=1_000, help="number of people")
    p.add_argument("--items", type=_count, default=1_000, help="number of items")
    p.add_argument("--context-strength", type=float, default=1.0,
                   help="how strongly the moment moves a taste; 0 = not at all")
    p.add_argument("--sharpness", type=float, default=2.5, help="how decided people are")
    p.add_argument("--seed", type=int, default=0, help="same seed, same files")

    p = add("schema", "Draft a config from data.", _schema, json_option=False)
    p.add_argument("events", help="events file (CSV, CSV.gz, Parquet)")
    p.add_argument("--items", help="items file")
    p.add_argument("--users", help="users file")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["train"]:
        return _run_program("hypertower-train", arguments[1:])
    if arguments[:1] == ["serve"]:
        return _run_program("hypertower-server", arguments[1:])
    if arguments[:1] == ["bench"]:
        return _bench(arguments[1:])
    args = _parser().parse_args(_repeat_options(arguments))
    try:
        return int(args.run(args))
    except HypertowerError as e:
        print(f"hypertower: {e}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 0
    except OSError as e:
        print(f"hypertower: {os_sentence(e)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("hypertower: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
