// A click on a heading sorts its table by that column; a second click reverses the order. Empty entries come last.
document.querySelectorAll("th").forEach(head => head.addEventListener("click", () => {
  const body = head.closest("table").tBodies[0], column = head.cellIndex;
  const ascending = head.dataset.ascending = head.dataset.ascending === "1" ? "0" : "1";
  const key = row => { const cell = row.cells[column]; return cell.dataset.value ?? cell.textContent; };
  const number = text => text === "" ? NaN : Number(text);
  const rows = [...body.rows].sort((a, b) => {
    const [x, y] = [key(a), key(b)], [u, v] = [number(x), number(y)];
    if (isNaN(u) !== isNaN(v)) return isNaN(u) ? 1 : -1;
    return (isNaN(u) ? x.localeCompare(y) : u - v) * (ascending === "1" ? 1 : -1);
  });
  body.append(...rows);
}));

// On narrow screens, where figures are shrunk, a click shows a figure at its full size.
document.querySelectorAll(".picture img").forEach(image => image.addEventListener("click", () => {
  image.classList.toggle("enlarged");
}));
