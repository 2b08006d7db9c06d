// The button of a heading sorts its table by that column; again, it reverses the order. Empty entries come last.
document.querySelectorAll("th button").forEach(button => button.addEventListener("click", () => {
  const head = button.closest("th"), body = head.closest("table").tBodies[0], column = head.cellIndex;
  const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  head.parentElement.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", order);
  const key = row => { const cell = row.cells[column]; return cell.dataset.value ?? cell.textContent; };
  const number = text => text === "" ? NaN : Number(text);
  const rows = [...body.rows].sort((a, b) => {
    const [x, y] = [key(a), key(b)], [u, v] = [number(x), number(y)];
    if ((x === "") !== (y === "")) return x === "" ? 1 : -1;
    if (isNaN(u) !== isNaN(v)) return isNaN(u) ? 1 : -1;
    return (isNaN(u) ? x.localeCompare(y) : u - v) * (order === "ascending" ? 1 : -1);
  });
  body.append(...rows);
}));

// What is wider than its place says that it scrolls.
const mark = () => document.querySelectorAll(".scroll, .picture").forEach(box =>
  box.toggleAttribute("data-overflow", box.scrollWidth > box.clientWidth + 1));
addEventListener("load", mark);
addEventListener("resize", mark);
