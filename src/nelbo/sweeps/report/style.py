"""How report.html looks, and how its tables sort."""

STYLE = """
body { font: 15px/1.5 system-ui, "Helvetica Neue", Arial, sans-serif; color: #222; background: #fff;
  max-width: 1180px; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.7rem; margin-bottom: .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.35rem; margin-top: 2.6rem; border-bottom: 1px solid #ddd; padding-bottom: .2rem; }
h3 { font-size: 1.1rem; margin: 2rem 0 .4rem; }
.answer { font-size: 1.15rem; background: #eef4f1; border-left: 4px solid #3b7a63; padding: .6rem .9rem; }
.error { background: #fbeaea; border-left: 4px solid #b3261e; padding: .6rem .9rem; overflow-wrap: anywhere; }
.warning { background: #fdf3e3; border-left: 4px solid #c8862a; padding: .6rem .9rem; overflow-wrap: anywhere; }
pre, code { font: 13px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; background: #f5f5f5; border-radius: 3px; }
pre { padding: .7rem .9rem; white-space: pre-wrap; overflow-wrap: anywhere; }
code { padding: .05rem .25rem; overflow-wrap: anywhere; }
figure { margin: 0; min-width: 0; }
.figures { display: flex; flex-wrap: wrap; gap: 1.4rem 1.2rem; align-items: flex-start; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { color: #555; font-size: .92rem; max-width: 34rem; margin-top: .3rem; }
.figures figure:only-child figcaption { max-width: 60rem; }
.wide { overflow-x: auto; max-height: 560px; overflow-y: auto; border: 1px solid #e4e4e4; }
table { border-collapse: collapse; font-size: .86rem; width: 100%; }
th { position: sticky; top: 0; background: #f2f2f2; text-align: left; cursor: pointer; white-space: nowrap; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #eee; white-space: nowrap; }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); gap: .9rem; }
.card { border: 1px solid #e4e4e4; padding: .6rem; font-size: .84rem; overflow-wrap: anywhere; }
img.strip { width: 100%; margin-top: .35rem; image-rendering: pixelated; display: block; }
.failures { max-height: 420px; overflow-y: auto; }
.failures li { overflow-wrap: anywhere; margin-bottom: .3rem; }
footer { color: #777; font-size: .85rem; margin: 3rem 0 1rem; border-top: 1px solid #ddd; padding-top: .6rem; }
"""

SORTING = """
document.querySelectorAll("th").forEach(head => head.addEventListener("click", () => {
  const body = head.closest("table").tBodies[0], place = head.cellIndex;
  const down = head.dataset.down = head.dataset.down === "1" ? "0" : "1";
  const key = row => { const cell = row.cells[place]; return cell.dataset.value ?? cell.textContent; };
  const number = text => text === "" ? NaN : Number(text);
  const rows = [...body.rows].sort((a, b) => {
    const [x, y] = [key(a), key(b)], [u, v] = [number(x), number(y)];
    if (isNaN(u) !== isNaN(v)) return isNaN(u) ? 1 : -1;
    return (isNaN(u) ? x.localeCompare(y) : u - v) * (down === "1" ? 1 : -1);
  });
  body.append(...rows);
}));
"""
