"""How CSV files are written is found once, where they are opened, and travels: a cluster counts what threads count."""

from __future__ import annotations

import gpudrift as gd


def folder_of_all_kinds(place, marker="x"):
    place.mkdir()
    rows = [(number % 40 / 8, number % 9, ("Köln", "Wien", "NA")[number % 3]) for number in range(900)]

    def text(separator, decimal=".", part=slice(None)):
        lines = [f"{a}".replace(".", decimal) + f"{separator}{b}{separator}{c}" for a, b, c in rows[part]]
        return "\n".join([separator.join(["score", "rooms", "city"]), *lines, ""])

    (place / "a.csv").write_text(text(",", part=slice(0, 300)))
    (place / "b.csv").write_bytes(text(";", ",", slice(300, 500)).encode("cp1252"))
    (place / "c.csv").write_bytes(text("|", part=slice(500, 700)).encode("utf-16"))
    (place / "d.csv").write_text("sep=\t\n" + text("\t", ",", slice(700, 900)))
    if marker != "x":
        (place / "e.csv").write_text(f"score,rooms,city\n1.5,2,Wien\n2.5,{marker},Wien\n")
    return place


def test_a_cluster_counts_what_threads_count(tmp_path, client):
    before, after = folder_of_all_kinds(tmp_path / "before"), folder_of_all_kinds(tmp_path / "after", "?")
    plain = {"score": [n % 40 / 8 for n in range(900)]}
    here, there = gd.profile(before), gd.profile(before, client=client)
    assert here.digest == there.digest
    assert here.seen == there.seen
    assert here.provenance["reading"] == there.provenance["reading"] != {}
    assert gd.profile(plain, schema=here, columns=["score"]).digest == here.select(["score"]).digest
    a, b = gd.profile(after, schema=here), gd.profile(after, schema=here, client=client)
    assert a.digest == b.digest
    assert (a.seen, a.skipped) == (b.seen, b.skipped)
    assert a.seen["rooms"] == "string" and "row 2 of" in a.skipped["rooms"] and "'?'" in a.skipped["rooms"]
    assert a.provenance["reading"] == b.provenance["reading"]
    fitted = gd.profile(after, client=client)
    assert fitted.digest == gd.profile(after).digest and fitted.seen["rooms"] == "string"
    told = {"missing": [], "decimal": "."}
    assert gd.profile(before, csv=told).digest == gd.profile(before, csv=told, client=client).digest != here.digest
