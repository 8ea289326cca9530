"""Tables of lakes that their own libraries do not write: made by hand, with deletes and columns of other names."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
)
from pyiceberg.typedef import Record
from pyroaring import BitMap

Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def _z85(data):
    data += b"\0" * (-len(data) % 4)
    text = ""
    for at in range(0, len(data), 4):
        value = int.from_bytes(data[at : at + 4], "big")
        text += "".join(Z85[value // 85**power % 85] for power in (4, 3, 2, 1, 0))
    return text


def _vector(rows):
    """A deletion vector of Delta, within the log."""
    data = struct.pack("<IQI", 1681511377, 1, 0) + BitMap(rows).serialize()
    return {"storageType": "i", "pathOrInlineDv": _z85(data), "sizeInBytes": len(data), "cardinality": len(rows)}


def delta_by_hand(folder, files, columns, *, partitions=(), features=(), mode="none"):
    """Write a Delta table of one version.

    Parameters
    ----------
    folder : path
    files : list of (name, pyarrow.Table, partition values, rows deleted)
    columns : list of (name, type of Delta, name in the files)
    partitions, features : sequence of str
    mode : str
        Of the column mapping.
    """
    log = Path(folder, "_delta_log")
    log.mkdir(parents=True)
    fields = []
    for number, (name, kind, stored) in enumerate(columns, 1):
        about = {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": stored} if mode != "none" else {}
        fields.append({"name": name, "type": kind, "nullable": True, "metadata": about})
    stored_names = {name: stored if mode != "none" else name for name, _, stored in columns}
    configuration = {} if mode == "none" else {"delta.columnMapping.mode": mode}
    configuration |= {"delta.columnMapping.maxColumnId": str(len(columns))} if mode != "none" else {}
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}
    actions = [
        {"protocol": protocol if features else {"minReaderVersion": 1, "minWriterVersion": 2}},
        {
            "metaData": {
                "id": "5f0b0b0b-0000-4000-8000-000000000000",
                "format": {"provider": "parquet", "options": {}},
                "schemaString": json.dumps({"type": "struct", "fields": fields}),
                "partitionColumns": list(partitions),
                "configuration": configuration,
                "createdTime": 0,
            }
        },
    ]
    for name, table, values, deleted in files:
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, row_group_size=7)
        add = {
            "path": name,
            "partitionValues": {stored_names[key]: value for key, value in values.items()},
            "size": path.stat().st_size,
            "modificationTime": 0,
            "dataChange": True,
            "stats": json.dumps({"numRecords": table.num_rows}),
        }
        actions.append({"add": add | ({"deletionVector": _vector(deleted)} if deleted else {})})
    (log / f"{0:020}.json").write_text("".join(json.dumps(action) + "\n" for action in actions))
    return folder


def iceberg_catalog(folder):
    """A catalog in a file, whose tables lie below a folder."""
    catalog = SqlCatalog("test", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}/warehouse")
    catalog.create_namespace("n")
    return catalog


class _DeleteManifest(ManifestWriterV2):
    def content(self):
        return ManifestContent.DELETES

    @property
    def _meta(self):
        return {**super()._meta, "content": "deletes"}


def iceberg_deletes(table, rows, content=DataFileContent.POSITION_DELETES):
    """Delete rows of a table's files by position, as engines that merge on read do; gives the new snapshot.

    Parameters
    ----------
    table : pyiceberg.table.Table
    rows : mapping of str to list of int
        Of a data file, by its path.
    content : DataFileContent
        What the file of deletes says that it is.
    """
    folder = table.location().removeprefix("file://")
    number = len(list(Path(folder, "metadata").iterdir()))
    pairs = sorted((path, row) for path, some in rows.items() for row in some)
    schema = pa.schema(
        [
            pa.field("file_path", pa.string(), False, {"PARQUET:field_id": "2147483546"}),
            pa.field("pos", pa.int64(), False, {"PARQUET:field_id": "2147483545"}),
        ]
    )
    path = f"{folder}/data/deletes-{number}.parquet"
    pq.write_table(pa.table(list(zip(*pairs, strict=True)), schema=schema), path)
    file = DataFile.from_args(
        content=content,
        file_path=f"file://{path}",
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=len(pairs),
        file_size_in_bytes=Path(path).stat().st_size,
        equality_ids=[1] if content == DataFileContent.EQUALITY_DELETES else None,
    )
    file.spec_id = table.spec().spec_id
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        existing = append._existing_manifests
        output = table.io.new_output(f"file://{folder}/metadata/deletes-{number}.avro")
        with _DeleteManifest(table.spec(), table.schema(), output, append.snapshot_id, "gzip") as writer:
            writer.add_entry(
                ManifestEntry.from_args(
                    status=ManifestEntryStatus.ADDED,
                    snapshot_id=append.snapshot_id,
                    sequence_number=None,
                    file_sequence_number=None,
                    data_file=file,
                )
            )
        manifest = writer.to_manifest_file()
        append._existing_manifests = lambda: [*existing(), manifest]
    return table.current_snapshot().snapshot_id
