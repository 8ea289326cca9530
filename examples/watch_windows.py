"""A table watched week by week: what has drifted from the year before, since when, where, and what moved last.

    python watch_windows.py

The bookings of 2015 are the baseline, those of 2016 are served. One reading counts all weeks of both hotels. From the
shell: gpudrift monitor BASELINE DATA --time arrival_date --every 1w --by hotel.
"""

from __future__ import annotations

from importlib.resources import as_file, files

import gpudrift as gd

COLUMNS = ["adr", "lead_time", "country", "customer_type", "market_segment", "meal", "adults", "babies", "is_canceled"]


def main() -> None:
    data = files("gpudrift") / "data"
    with as_file(data / "hotel_bookings_2015.parquet") as first, as_file(data / "hotel_bookings_2016.parquet") as last:
        baseline = gd.profile(first, columns=COLUMNS, time="arrival_date", every="1w", by="hotel")
        served = gd.profile(last, schema=baseline)  # the same weeks, hotels and bins
    fortnights = served.longer("2w").starts  # weeks add up, and nothing is read again
    print(f"{served.total().rows:,} bookings in {len(served.starts)} weeks, or {len(fortnights)} times two")

    found = gd.monitor(baseline, served, rules={"columns": {"adr": {"min": 0}}})
    for week in found:
        moved = ", ".join(one.column for one in week.moved) or "nothing"
        drifted = f"{len(week.drifted)} of {week.judged} columns drifted"
        print(f"{week.label[:10]}  {week.rows:>5,} rows, {drifted}; moved since the week before: {moved}"[:110])
    for column in found.columns()[:5]:
        where = ", ".join(f"{name} {times} x" for name, times in column["segments"].items())
        print(f"{column['name']:<28} since {column['first'][:10]}, {column['drifted']} weeks; {where}")

    # Thresholds from the baseline's own weeks: what a week is usually off by is no alarm.
    usual = gd.monitor(baseline, served, thresholds="calibrated", rate=0.02)
    print(f"findings by fixed thresholds {len(found.findings)}, by calibrated ones {len(usual.findings)}")


if __name__ == "__main__":
    main()
