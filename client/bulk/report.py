"""The HTML report of a bulk rendering: one file that needs nothing else and stays usable with many thousands of rows."""

from __future__ import annotations

import html
import json
from pathlib import Path

from emotivetalk.files import atomic_write, writing

_COLUMNS = ("row", "id", "status", "video_s", "elapsed_s", "device_s", "attempts", "error_code", "error_message")
_ROWS_PER_PAGE = 100
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>@TITLE@</title>
<style>
:root{color-scheme:light dark;font:15px/1.45 system-ui,sans-serif}body{max-width:75rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #8884;vertical-align:middle}
th button{all:unset;cursor:pointer;font-weight:600}th button:focus-visible{outline:2px solid}video{width:96px;height:96px;background:#8882}
.failed{color:#c33}nav{display:flex;gap:.6rem;align-items:center;margin:1rem 0;flex-wrap:wrap}td.text{overflow-wrap:anywhere}
</style></head><body><h1>@TITLE@</h1><p id="counts"></p>
<nav><label>Show <select id="filter"><option value="">all</option><option>completed</option><option>skipped</option><option>failed</option></select></label>
<button id="back">Back</button><span id="page"></span><button id="next">Next</button></nav>
<table><thead><tr id="head"></tr></thead><tbody id="rows"></tbody></table>
<script type="application/json" id="data">@DATA@</script>
<script>
const {columns, rows} = JSON.parse(document.getElementById('data').textContent), size = @SIZE@, get = id => document.getElementById(id);
let order = 0, down = false, page = 0, shown = rows;
const counts = {}; for (const row of rows) counts[row[2]] = (counts[row[2]] || 0) + 1;
get('counts').textContent = Object.entries(counts).map(([name, number]) => number + ' ' + name).join(', ');
const cell = (parent, text, kind) => { const made = document.createElement('td'); made.textContent = text ?? ''; if (kind) made.className = kind; parent.append(made); return made; };
function draw() {
  const pages = Math.max(1, Math.ceil(shown.length / size)); page = Math.min(Math.max(page, 0), pages - 1);
  get('page').textContent = 'page ' + (page + 1) + ' of ' + pages; get('rows').replaceChildren();
  for (const row of shown.slice(page * size, (page + 1) * size)) {
    const line = document.createElement('tr'), view = cell(line, ''), name = row[columns.length];
    if (name) { const video = document.createElement('video'); video.src = encodeURIComponent(name) + '#t=0.1'; video.preload = 'metadata'; video.controls = true; video.muted = true; view.append(video); }
    columns.forEach((column, index) => { const made = cell(line, index === 1 && name ? '' : row[index], column.startsWith('error') || index === 1 ? 'text' : row[2]);
      if (index === 1 && name) { const link = document.createElement('a'); link.href = encodeURIComponent(name); link.textContent = row[1]; made.append(link); } });
    get('rows').append(line);
  }
}
function arrange() {
  const wanted = get('filter').value; shown = rows.filter(row => !wanted || row[2] === wanted);
  const value = row => row[order] ?? ''; shown.sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0) * (down ? -1 : 1)); page = 0; draw();
}
get('head').append(document.createElement('th'));
columns.forEach((column, index) => { const head = document.createElement('th'), button = document.createElement('button'); button.textContent = column.replaceAll('_', ' ');
  button.onclick = () => { down = order === index && !down; order = index; arrange(); }; head.append(button); get('head').append(head); });
get('filter').onchange = arrange; get('back').onclick = () => { page--; draw(); }; get('next').onclick = () => { page++; draw(); }; arrange();
</script></body></html>
"""


def write_report(results: Path, report: Path, title: str) -> None:
    """Write the report of `results.jsonl`. Only one page of rows is in the document at a time, so 10,000 rows stay usable.

    Raises:
        OutputError: the disk is full.
    """
    rows = []
    with results.open(encoding="utf-8") as lines:
        for line in lines:
            result = json.loads(line)
            rows.append([*(result[name] for name in _COLUMNS), result["video"]])
    data = json.dumps({"columns": _COLUMNS, "rows": rows}, ensure_ascii=False).replace("<", "\\u003c")
    page = _PAGE.replace("@TITLE@", html.escape(title)).replace("@SIZE@", str(_ROWS_PER_PAGE)).replace("@DATA@", data)
    with atomic_write(report) as temporary, writing(report):
        temporary.write_text(page, encoding="utf-8")
