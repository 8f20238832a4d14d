"""How good models are that know nothing but a schema: parts of real data are held out, the rest is
given to fit(), and what recommend() says is measured over the whole catalogue.

DATA holds one folder per data set, as the first line of configs/<name>.toml says ("# data: ml-1m");
absent ones are skipped. One set of defaults for all: the configs name columns, nothing is tuned.

  Q1, Q2  ml-1m, beauty: each person's last item; seen items left out           hit rate, ndcg at 10
  Q3      gowalla: a fifth of each person's pairs, over GF-CF (Shen et al. 2021)  recall, ndcg at 20
  Q4      ml-1m the same way, over the low-pass of its SVD, dimension 128         recall, ndcg at 20
  Q5      smart-home: what follows nine actions, in valid.csv.gz                           map at 5
  Q7      complete-journey: goods bought after week 48, with those of at least four
          purchases before week 45 as the catalogue                                   hit rate at 20
  Q8      ml-100k: each person's last item, with and without the moment           ndcg at 10, ratio
  Q9      a synthetic world with a moment: recall at 10 over the best reachable
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import numpy as np
import pandas as pd
from common import ROOT, Suite
from quality import folder_of

import hypertower as ht
from hypertower.synth import synth

Figures = dict[str, float]
TARGETS = {"Q1 HR@10": 0.330, "Q1 NDCG@10": 0.190, "Q2 HR@10": 0.120, "Q2 NDCG@10": 0.075,
           "Q3 R@20 ratio": 1.0, "Q3 N@20 ratio": 1.0, "Q4 R@20 ratio": 1.0, "Q4 N@20 ratio": 1.0,
           "Q5 mAP@5": 0.92, "Q7 HR@20": 0.152, "Q8 NDCG@10": 0.125, "Q8 context ratio": 0.98,
           "Q9 over reachable": 0.93}
DISCOUNT = 1 / np.log2(np.arange(2, 22))


class Data:
    """One data set with its config."""

    def __init__(self, root: Path, name: str) -> None:
        self.config = ROOT / "configs" / f"{name}.toml"
        self.folder = root / folder_of(self.config)

    def table(self, file: str) -> pd.DataFrame:
        return pd.read_csv(self.folder / file)

    def fit(self, events: pd.DataFrame, seed: int, **settings: Any) -> ht.Recommender:
        """`settings`: data__split="last" stands for data.split."""
        overrides = {"training.seed": seed, "evaluation.baselines": False,
                     **{key.replace("__", "."): value for key, value in settings.items()}}
        rec = ht.Recommender.from_config(self.config, overrides=overrides)
        others = {kind: self.folder / file for kind, file in
                  (("items", "items.csv.gz"), ("users", "users.csv.gz"))
                  if (self.folder / file).exists()}
        return rec.fit(events, **others)


def places(lists: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """From 1: where the wanted id is in its list; 0 where it is not."""
    hit = lists == wanted[:, None]
    return np.where(hit.any(1), hit.argmax(1) + 1, 0)


def last_item(data: Data, file: str, order: str, seed: int, context: bool = True) -> Figures:
    events = data.table(file).sort_values(["user_id", order], kind="stable")
    is_last = ~events["user_id"].duplicated(keep="last")
    held = events[is_last]
    settings: dict[str, Any] = {} if context else {"model__head": "none"}
    rec = data.fit(events[~is_last], seed, data__split="last", **settings)
    requests: list[dict[str, Any]] = [{"user": int(u)} for u in held["user_id"]]
    if order == "timestamp":
        requests = [{"user": int(u), "time": float(t)}
                    for u, t in zip(held["user_id"], held["timestamp"], strict=True)]
    lists, _ = rec.recommend(requests, k=10, exclude_seen=True)
    place = places(lists, held["item_id"].to_numpy(object))
    gains = np.where(place > 0, 1 / np.log2(place + 1.0), 0)
    return {"HR@10": float((place > 0).mean()), "NDCG@10": float(gains.mean())}


class Pairs:
    """Distinct pairs of people and items as numbers, a fifth of each person's held out."""

    def __init__(self, events: pd.DataFrame, seed: int) -> None:
        pairs = events[["user_id", "item_id"]].drop_duplicates()
        self.user = pd.factorize(pairs["user_id"])[0]
        self.item = pd.factorize(pairs["item_id"])[0]
        self.shape = (self.user.max() + 1, self.item.max() + 1)
        order = np.lexsort((np.random.default_rng(seed).random(len(pairs)), self.user))
        count = np.bincount(self.user)
        place = np.empty(len(pairs), np.int64)
        place[order] = np.arange(len(pairs)) - (np.cumsum(count) - count)[self.user[order]]
        held = np.where(count >= 5, np.maximum(1, count // 5), 0)
        self.held = place < held[self.user]

    def lists(self, held: bool) -> list[np.ndarray]:
        """Items by person."""
        mask = self.held if held else ~self.held
        order = np.argsort(self.user[mask], kind="stable")
        ends = np.cumsum(np.bincount(self.user[mask], minlength=self.shape[0]))
        return np.split(self.item[mask][order], ends[:-1])

    def measure(self, people: np.ndarray, lists: np.ndarray) -> Figures:
        ideal = np.cumsum(DISCOUNT)
        wanted = self.lists(held=True)
        recalls, gains = [], []
        for person, shown in zip(people, lists, strict=True):
            hit = np.isin(shown, wanted[person])
            recalls.append(hit.sum() / len(wanted[person]))
            gains.append((hit * DISCOUNT).sum() / ideal[min(20, len(wanted[person])) - 1])
        return {"R@20": float(np.mean(recalls)), "N@20": float(np.mean(gains))}


def graph_filter(pairs: Pairs, people: np.ndarray, dim: int, neighbours: bool) -> np.ndarray:
    """The 20 best of GF-CF with an ideal low-pass of `dim` (weight 0.3 beside the linear filter),
    or of that low-pass alone."""
    import torch

    user, item = (torch.from_numpy(ids[~pairs.held]) for ids in (pairs.user, pairs.item))
    users, items = pairs.shape
    scale = [torch.bincount(ids, minlength=n).double().clamp(min=1) ** -0.5
             for ids, n in ((user, users), (item, items))]
    values = (scale[0][user] * scale[1][item]).float()
    a = torch.sparse_coo_tensor(torch.stack([user, item]), values, (users, items)).coalesce()
    a, transposed = a.to_sparse_csr(), a.t().coalesce().to_sparse_csr()
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(items, dim + 16, generator=generator)
    for _ in range(4):
        basis = torch.linalg.qr(transposed @ (a @ basis))[0]
    small = a @ basis
    _, vectors = torch.linalg.eigh((small.T @ small).double())
    basis = basis @ vectors[:, -dim:].float()
    weight = scale[1].float()
    own = pairs.lists(held=False)
    best = []
    for block in np.array_split(people, len(people) // 512 + 1):
        seen = torch.zeros(len(block), items)
        for row, person in enumerate(block):
            seen[row, torch.from_numpy(own[person])] = 1
        scores = ((seen * weight) @ basis) @ basis.T / weight
        if neighbours:
            scores = 0.3 * scores + (transposed @ (a @ seen.T)).T
        best.append(scores.masked_fill(seen > 0, -torch.inf).topk(20, dim=1).indices.numpy())
    return np.concatenate(best)


def pairs_over(data: Data, file: str, peer: Callable[[Pairs, np.ndarray], np.ndarray],
               seed: int) -> Figures:
    pairs = Pairs(data.table(file), seed)
    people = np.unique(pairs.user[pairs.held])
    table = pd.DataFrame({"user_id": pairs.user[~pairs.held], "item_id": pairs.item[~pairs.held]})
    # Ids alone: a schema of its own, without the columns of the config.
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "pairs.toml"
        config.write_text('[data]\nevents = "pairs"\nsplit = "random"\ntest_fraction = 0.0\n'
                          'valid_fraction = 0.03\n')
        rec = ht.Recommender.from_config(config, overrides={"training.seed": seed})
        rec.fit(table)
    lists, _ = rec.recommend([{"user": int(p)} for p in people], k=20, exclude_seen=True)
    ours = pairs.measure(people, lists.astype(np.int64))
    theirs = pairs.measure(people, peer(pairs, people))
    return {**ours, **{f"{name} ratio": ours[name] / theirs[name] for name in ours}}


def smart_home(data: Data, seed: int) -> Figures:
    rec = data.fit(data.table("train.csv.gz"), seed, data__split="last", data__valid="",
                   data__test="")
    requests, wanted = [], []
    for _, session in data.table("valid.csv.gz").groupby("session_id"):
        rows = session.sort_values("position").to_dict("records")
        requests.append({"history": [{"item": row["control"]} for row in rows[:-1]],
                         "context": {name: rows[-1][name] for name in ("weekday", "time_slot")}})
        wanted.append(rows[-1]["control"])
    lists, _ = rec.recommend(requests, k=5, exclude_seen=False)
    place = places(lists, np.array(wanted, object))
    return {"mAP@5": float(np.where(place > 0, 1 / np.maximum(place, 1), 0).mean())}


def complete_journey(data: Data, seed: int) -> Figures:
    events = data.table("events.csv.gz").drop_duplicates(["basket_id", "product_id"])
    count = events[events["week"] <= 44]["product_id"].value_counts()
    events = events[events["product_id"].isin(count[count >= 4].index)]
    early = events["week"] <= 48
    products = data.table("products.csv.gz")
    products = products[products["product_id"].isin(events["product_id"])]
    rec = ht.Recommender.from_config(data.config, overrides={
        "training.seed": seed, "evaluation.baselines": False})
    rec.fit(events[early], items=products, users=data.folder / "households.csv.gz")
    return {"HR@20": rec.evaluate(events[~early])["recall@20"]}


def moment_ratio(data: Data, seed: int) -> Figures:
    with_it = last_item(data, "events.csv.gz", "timestamp", seed)
    without = last_item(data, "events.csv.gz", "timestamp", seed, context=False)
    return {"NDCG@10": with_it["NDCG@10"],
            "context ratio": with_it["NDCG@10"] / without["NDCG@10"]}


def reachable(seed: int) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        truth = synth(folder, seed=seed)
        rec = ht.Recommender.from_config(Path(folder) / "config.toml", overrides={
            "training.seed": seed, "evaluation.baselines": False})
        rec.fit()
    return {"over reachable": rec.report_["test"]["recall@10"] / truth["best recall@10"]}


def cases(root: Path) -> Iterator[tuple[str, str, Callable[[int], Figures]]]:
    """Id, name, measurement by seed; of the data sets that are there."""
    found = {config.stem: Data(root, config.stem) for config in (ROOT / "configs").glob("*.toml")}

    def gf_cf(pairs: Pairs, people: np.ndarray) -> np.ndarray:
        return graph_filter(pairs, people, 256, neighbours=True)

    def low_pass(pairs: Pairs, people: np.ndarray) -> np.ndarray:
        return graph_filter(pairs, people, 128, neighbours=False)

    measurements: dict[str, tuple[str, Callable[[Data, int], Figures]]] = {
        "Q1": ("ml-1m", lambda d, seed: last_item(d, "train.csv.gz", "position", seed)),
        "Q2": ("beauty", lambda d, seed: last_item(d, "train.csv.gz", "position", seed)),
        "Q3": ("gowalla", lambda d, seed: pairs_over(d, "train.csv.gz", gf_cf, seed)),
        "Q4": ("ml-1m", lambda d, seed: pairs_over(d, "train.csv.gz", low_pass, seed)),
        "Q5": ("smart-home", smart_home),
        "Q7": ("complete-journey", complete_journey),
        "Q8": ("movielens", moment_ratio),
    }
    for row_id, (name, measure) in measurements.items():
        data = found[name]
        if data.folder.is_dir():
            yield row_id, name, lambda seed, d=data, m=measure: m(d, seed)
        else:
            print(f"{row_id}: skipped, there is no folder {data.folder}", flush=True)
    yield "Q9", "synthetic", reachable


def main() -> None:
    suite = Suite(__doc__ or "",
                  data={"type": Path, "required": True, "help": "folder of the data sets"},
                  only={"nargs": "*", "help": "ids of rows; default all"},
                  seeds={"type": int, "default": 3, "help": "runs of each row"})
    for row_id, name, measure in cases(suite.options.data):
        if suite.options.only and row_id not in suite.options.only:
            continue
        runs, seconds = [], []
        for seed in range(1 if suite.quick else suite.options.seeds):
            start = time.perf_counter()
            runs.append(measure(seed))
            seconds.append(time.perf_counter() - start)
        for figure in runs[0]:
            values = [run[figure] for run in runs]
            target = TARGETS.get(f"{row_id} {figure}")
            suite.add(row_id, {"data": name, "figure": figure, "target": target,
                               "seeds": len(values), "spread": round(pstdev(values), 5)},
                      mean(values), "", "higher", False, mean(seconds))


if __name__ == "__main__":
    main()
