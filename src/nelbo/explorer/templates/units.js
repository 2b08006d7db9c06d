// The sliders of the units of a level.
const FIRST = 12, THUMB = 8, SHIFT = 3;

class Units {
  // root: where they are. all: the button that shows all of them. moved: called with a unit and its value.
  constructor(root, all, moved) {
    Object.assign(this, { root, all, moved, rows: new Map(), open: false });
    all.addEventListener("click", () => {
      this.open = true;
      this.build();
      this.fill();
    });
  }

  // Shows the units of a level.
  // number: of the run. level: from 1. kind: "unit" or "channel". order: the units. kl: of each, or null.
  // low, high: the range of each unit; null for shifts.
  set(description) {
    Object.assign(this, description);
    this.build();
  }

  build() {
    this.rows.clear();
    this.drawn = undefined; // the posterior that the rows show
    this.root.replaceChildren();
    const shown = this.open ? this.order : this.order.slice(0, FIRST);
    for (const unit of shown) this.root.append(this.row(unit));
    this.all.hidden = shown.length === this.order.length;
    this.all.textContent = `Show all ${this.order.length} ${this.kind}s`;
  }

  row(unit) {
    const make = (name, properties) => Object.assign(document.createElement(name), properties);
    const id = `unit-${this.number}-${this.level}-${unit}`;
    const [low, high] = this.low === null ? [-SHIFT, SHIFT] : [this.low[unit], this.high[unit]];
    const input = make("input", { type: "range", id, min: low, max: high, step: (high - low) / 400 });
    const label = make("label", { htmlFor: id, textContent: `${this.kind} ${unit}` });
    const kl = make("span", {}), output = make("output", { htmlFor: id });
    label.append(kl);
    const band = make("div", { className: "band" }), mean = make("div", { className: "mean" });
    const track = make("div", { className: "track" });
    track.append(make("div", { className: "line" }), band, mean, input);
    const row = make("div", { className: "unit" });
    row.append(label, track, output);
    input.addEventListener("input", () => {
      output.textContent = number(Number(input.value), 2);
      this.moved(unit, Number(input.value));
    });
    this.rows.set(unit, { input, output, band, mean, kl, low, high });
    return row;
  }

  // Shows values of the units, and the posterior of the image: mean, deviation and kl of each unit.
  show(values, posterior) {
    this.values = values;
    this.posterior = posterior;
    this.fill();
  }

  fill() {
    if (this.values === undefined) return;
    for (const [unit, { input, output, low, high }] of this.rows) {
      const value = this.values[unit] ?? 0;
      if (document.activeElement !== input || Math.abs(Number(input.value) - value) > (high - low) / 300) input.value = value;
      output.textContent = number(value, 2);
    }
    if (this.posterior === this.drawn) return;
    this.drawn = this.posterior;
    for (const [unit, { band, mean, kl, low, high }] of this.rows) {
      const own = this.posterior;
      kl.textContent = this.kl === null ? "" : `KL ${number(this.kl[unit], 2)}`;
      if (own === null) continue;
      if (own.kl !== null && this.kl !== null) kl.textContent += `, here ${number(own.kl[unit], 2)}`;
      const share = place => Math.min(Math.max((place - low) / (high - low), 0), 1);
      const [from, to] = [share(own.mean[unit] - own.deviation[unit]), share(own.mean[unit] + own.deviation[unit])];
      const place = part => `calc(${THUMB}px + (100% - ${2 * THUMB}px) * ${part})`;
      band.style.left = place(from);
      band.style.width = `calc((100% - ${2 * THUMB}px) * ${to - from})`;
      mean.style.left = `calc(${place(share(own.mean[unit]))} - 1px)`;
    }
  }
}
