"""Rules for a table: what broke, what moved, and what never fitted, each on real data, shown one by one.

    python watch_with_rules.py

The rules know the bookings of 2015 that ship with gpudrift. Those of 2016 break three of them; for the others an
accident each is made from the real table. From the shell: gpudrift check DATA --rules FILE --reference BASELINE.
"""

from __future__ import annotations

from importlib.resources import as_file, files

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import gpudrift as gd

RULES = {
    "table": {"rows": {"at_least": 10_000}, "column_changes": False, "scale_change": False},
    "columns": {
        "customer_type": {"share": {"of": "Transient", "at_most": 0.70}},  # as of a model's 'fraud'
        "market_segment": {"among": ["Online TA", "Offline TA/TO", "Groups", "Direct", "Corporate", "Complementary"]},
        "country": {"new": 0.001, "missing": 0.05},  # new: values that the reference lacks
        "lead_time": {"outside": 0.005, "nulls": False},  # 0.5 % out of the reference's smallest and largest
        "adr": {"min": 0, "max": 600, "mean": {"at_most": 110}, "quantile": {"q": 0.95, "at_most": 230}},
        "stays_in_week_nights": {"median": {"at_least": 1, "at_most": 3}, "std": {"at_most": 3}},
        "hotel": {"constant": False},
    },
}


def accidents(table: pa.Table) -> dict[str, pa.Table]:
    """What can happen to a table on its way, one accident each."""

    def replaced(name: str, values: pa.ChunkedArray) -> pa.Table:
        return table.set_column(table.schema.get_field_index(name), name, values)

    tenth = pa.array([row % 10 == 0 for row in range(table.num_rows)])
    lost = {name: pc.if_else(tenth, pa.scalar(None, table[name].type), table[name]) for name in table.column_names}
    return {
        "only the first 5,000 rows came": table.slice(0, 5000),
        "one kind of hotel was lost": table.filter(pc.field("hotel") == "City Hotel"),
        "a join lost every tenth country": replaced("country", lost["country"]),
        "lead times are null in places": replaced("lead_time", lost["lead_time"]),
        "lead times in hours": replaced("lead_time", pc.multiply(table["lead_time"], 24)),
        "rates times 1,000": replaced("adr", pc.multiply(table["adr"], 1000)),
        "refunds": replaced("adr", pc.if_else(tenth, pc.negate(table["adr"]), table["adr"])),
        "a dearer year": replaced("adr", pc.add(table["adr"], 40)),
        "longer stays": replaced("stays_in_week_nights", pc.multiply(table["stays_in_week_nights"], 2)),
        "adults as text, no meals": replaced("adults", pc.cast(table["adults"], pa.string())).drop_columns(["meal"]),
    }


def show(title: str, findings: list[gd.Finding]) -> None:
    lines = [f"  {one.kind:<8} {one.column or 'the table'}: {one.rule}: {one.reason}" for one in findings]
    print(title, *lines, sep="\n")


def main() -> None:
    data = files("gpudrift") / "data"
    with as_file(data / "hotel_bookings_2015.parquet") as first, as_file(data / "hotel_bookings_2016.parquet") as last:
        baseline = gd.profile(first, rules=RULES)  # bounds become edges: no share is an interval
        today = pq.read_table(last)
    show("2016, as it is", usual := gd.check(today, RULES, reference=baseline))
    show("2016, had it come right after the training", gd.check(today, RULES, reference=baseline, first=today))
    show("2016, and what has drifted", gd.check(today, {"table": {"drift": {"psi": 0.2}}}, reference=baseline))
    known = {(one.column, one.rule) for one in usual}
    for title, table in accidents(today).items():
        found = gd.check(table, RULES, reference=baseline)
        show(f"{title}, and so besides", [one for one in found if (one.column, one.rule) not in known])


if __name__ == "__main__":
    main()
