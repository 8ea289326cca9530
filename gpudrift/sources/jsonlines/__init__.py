"""JSON lines: files with one JSON object a line.

The columns of such files and their types are not told anywhere, so opening one reads all of it once, for its keys and
the kinds of their values (`shapes`); what is found does not depend on how the file is cut into blocks, or the data into
files. Counting reads it again, with Arrow's JSON reader (`reading`), a block of whole lines at a time (`blocks`).
"""

from __future__ import annotations
