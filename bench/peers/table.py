#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lines of bench_peers, libpeers and faiss_wheel.py as one table: queries a second at fixed recall, beside hnswlib.

    table.py NAME FILE...        NAME of the data set: its bars are those of vector-index.md section 12
"""
import json
import math
import sys

RECALLS = (0.90, 0.95, 0.98, 0.99)
# At 0.95 and at 0.98; the page has bars for glove, s768 and lsa, text embeddings of its own: minilm is held to those of lsa,
# its queries of eight words to that of lsa-ood.
BARS = {"glove": (6, 10), "s768": (5, 8), "minilm": (2, 3), "minilm-8-words": (4,)}
BUILD_BAR = 12


def read(paths):
    libs = {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for text in file:
                if not text.startswith("{"):
                    continue
                line = json.loads(text)
                lib = libs.setdefault(line["lib"], {"build": {}, "points": [], "filters": []})
                if "filter" in line:
                    lib["filters"].append(line)
                elif "recall" in line:
                    lib["points"].append(line)
                else:
                    lib["build"].update(line)
    return libs


def at_recall(points, recall):
    """Queries a second where the curve passes `recall`: between two efforts, linear in log speed against log loss.

    None where no effort reaches it.  An effort that is both faster and better than another stands for it.
    """
    curve, fastest = [], 0
    for point in sorted(points, key=lambda p: (-p["recall"], -p["qps"])):
        if point["qps"] > fastest:
            fastest = point["qps"]
            curve.append(point)
    above = None
    for point in curve:  # from the best recall down, ever faster
        if point["recall"] < recall:
            if above is None:
                return None
            low, high = (math.log(max(1 - p["recall"], 1e-5)) for p in (point, above))
            share = (math.log(1 - recall) - high) / (low - high)
            return math.exp(math.log(above["qps"]) + share * math.log(point["qps"] / above["qps"]))
        above = point
    return above and above["qps"]  # the least effort is better than asked for


def cell(value, peer):
    if value is None:
        return "not reached"
    return f"{value:,.0f}" + (f" ({value / peer:.1f}x)" if peer else "")


def default_effort(points):
    return next((p for p in points if p.get("ef") == 100), None)


def verdict(what, bar, value):
    print(f"* {what}: " + ("not measured" if value is None else
                           f"{value:.1f}x, bar {bar}x: {'reached' if value >= bar else '**not reached**'}"))


def bars(name, libs, of):
    ours, peer = libs.get("ochre"), libs.get("hnswlib")
    if not ours or not peer or name not in BARS:
        return
    print()
    same = ours["build"].get("rows") == peer["build"].get("rows")
    if not same:
        print(f"hnswlib has {peer['build'].get('rows'):,} rows, Ochre {ours['build'].get('rows'):,}: bars are not judged.")
        return
    for recall, bar in zip((0.95, 0.98), BARS[name]):
        a, b = of["ochre"][recall], of["hnswlib"][recall]
        verdict(f"recall {recall} beside hnswlib", bar, a / b if a and b else None)
    verdict("build beside hnswlib (CPU time, log and parts included)", BUILD_BAR,
            peer["build"]["build_s"] / ours["build"]["build_s"])
    mine, other = default_effort(ours["points"]), default_effort(peer["points"])
    good = mine["recall"] >= other["recall"] - 0.003
    print(f"* recall at the default effort: {mine['recall']:.4f}, hnswlib at ef 100 {other['recall']:.4f} less 0.003: "
          + ("reached" if good else "**not reached**"))
    spread = mine["p99_us"] / mine["p50_us"]
    print(f"* p99 / p50 at the default effort (CPU time): {spread:.2f}, bar 2.5: "
          + ("reached" if spread <= 2.5 else "**not reached**"))


def main():
    name, libs = sys.argv[1], read(sys.argv[2:])
    of = {lib: {r: at_recall(v["points"], r) for r in RECALLS} for lib, v in libs.items()}
    print("| library | rows | build CPU s | memory MB | " + " | ".join(f"q/s at {r:.2f}" for r in RECALLS)
          + " | recall, q/s at ef 100 |")
    print("| --- | --- | --- | --- | " + "--- | " * (len(RECALLS) + 1))
    for lib, value in libs.items():
        build, default = value["build"], default_effort(value["points"])
        peer = of.get("hnswlib", {})
        same = lib != "hnswlib" and build.get("rows") == libs.get("hnswlib", {"build": {}})["build"].get("rows")
        print(f"| {lib} | {build.get('rows', 0):,} | {build.get('build_s', 0):,.1f} | {build.get('index_mb', 0):,.0f} | "
              + " | ".join(cell(of[lib][r], peer.get(r) if same else None) for r in RECALLS) + " | "
              + (f"{default['recall']:.4f}, {default['qps']:,}" if default else "–") + " |")
    bars(name, libs, of)
    for line in libs.get("ochre", {"filters": []})["filters"]:
        print(f"* filter {line['filter']}: {line['survivors']:,} rows pass, recall {line['recall']:.4f}, {line['qps']:,} q/s, "
              f"p50 {line['p50_us']} µs, p99 {line['p99_us']} µs, wrong {line['wrong']}")


if __name__ == "__main__":
    main()
