"""JSON lines: files with one JSON object a line.

The columns of such files and their types are not told anywhere, so opening one reads all of it once, for its keys and
the kinds of their values (`shapes`); what is found does not depend on how the file is cut into blocks, or the data into
files. Counting reads it again, with Arrow's JSON reader (`reading`), a block of whole lines at a time (`blocks`).
What opening has parsed is not parsed again: up to 512 MiB of Arrow tables are kept in a process (`kept`), whatever the
size of the files. Beyond these, and on the workers of a cluster, each reading parses anew, which with the opening takes
2.2 to 2.5 times what Arrow's own reader takes once. Whatever is kept, at most one block more than there are threads is
held at a time: 4 MiB of text each, or one line, which may have 256 MiB.
"""

from __future__ import annotations
