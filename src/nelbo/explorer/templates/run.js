// One run: its point of the latent space, and the panels that show and move it.
class Run {
  // root: the section of the page. description: what the page is told of the run. shared: what all runs have in common:
  // the images, and how far their codes are on the way from one to the other.
  constructor(root, description, shared) {
    Object.assign(this, { root, description, shared, number: Number(root.dataset.run) });
    this.part = name => root.querySelector(`[data-part="${name}"]`);
    this.point = {
      origin: "images", z: null, level: 1, upper: "images", below: "mode", shifts: {}, seed: 1, temperature: 1, label: null,
    };
    this.setting = {};
    this.codes = this.posterior = null;
    this.units = new Units(this.part("units"), this.part("all"), (unit, value) => this.moveUnit(unit, value));
    this.plane = this.part("plane") === null ? null : new Plane(this.part("plane"), change => this.moveOnPlane(change));
    this.decode = latest(() => this.askPicture());
    this.encode = latest(() => this.askPosterior());
    this.survey = latest(() => this.askUnits());
    this.listen();
  }

  place() {
    return { run: this.number, image: this.shared.image, setting: this.setting, label: this.point.label };
  }

  async askPicture() {
    const { other, step, path } = this.shared, asked = this.point;
    const answer = await ask("/decode", { ...this.place(), ...asked, other, step, path });
    draw(this.part("decoded"), answer.picture);
    // A point that has moved on is followed by its own picture; one that was given is shown already.
    if (asked !== this.point || asked.origin === "point") return;
    this.point.z = answer.z;
    this.showPoint();
  }

  async askPosterior() {
    const answer = await ask("/posterior", this.place());
    this.posterior = answer;
    draw(this.part("input"), answer.picture);
    if (this.point.label === null && this.part("label") !== null) this.part("label").value = answer.label;
    const total = answer.levels.reduce((sum, level) => level.total === null ? NaN : sum + level.total, 0);
    const label = answer.label < 0 ? "" : `, label ${this.nameOf(answer.label)}`;
    const kl = Number.isNaN(total) ? "" : `KL ${number(total, 1)} nats; `;
    this.part("input-text").textContent =
      `image ${this.shared.image}${label}; ${kl}at the mode of q(z|x) −log p(x|z) ${number(answer.distortion, 1)} nats`;
    this.showPoint();
  }

  async askUnits() {
    this.codes = await ask("/units", this.place());
    this.showLevel();
    if (this.plane === null) return;
    const axes = this.part("kind")?.value === "units" ? [Number(this.part("across").value), Number(this.part("up").value)] : null;
    const plane = await ask("/plane", { ...this.place(), axes });
    const count = Math.max(...plane.labels) + 1;
    this.plane.set(plane, count);
    this.part("plane-text").textContent =
      `Across: ${plane.names[0]}; up: ${plane.names[1]}. Dots: means of q(z|x) of ${plane.points.length} images; ` +
      "small grey dots: samples of p(z); ellipse: one standard deviation of q(z|x) of the first image.";
    this.showLegend(plane.labels, count);
    this.showPoint();
  }

  nameOf(label) {
    const names = this.description.classes;
    return label < names.length ? names[label] : `${label}`;
  }

  showLegend(labels, count) {
    const present = [...new Set(labels)].filter(label => label >= 0).sort((a, b) => a - b);
    const entries = (present.length > 20 ? [] : present).map(label => {
      const entry = document.createElement("span"), dot = document.createElement("i");
      dot.style.background = colourOf(label, count);
      entry.append(dot, this.nameOf(label));
      return entry;
    });
    this.part("legend").replaceChildren(...entries);
  }

  // Shows the units of the level that is moved.
  showLevel() {
    const { level } = this.point, { levels, settings } = this.description, shown = levels[level - 1];
    const kind = shown.is_map ? "channel" : "unit", { order, kl } = this.codes.levels[level - 1];
    const count = settings.latent_dim === undefined || level > 1 ? Infinity : this.setting.latent_dim;
    const top = level === 1;
    this.units.set({
      number: this.number, level, kind, order: order.filter(unit => unit < count), kl,
      low: top ? this.codes.low : null, high: top ? this.codes.high : null,
    });
    const ranked = kl === null ? "Single units have no KL here, as q(z|x) or p(z) does not factorise; the largest variance of E[z|x] first" : "KL in nats, mean over images, the largest first; here: of this image";
    this.part("units-title").textContent = levels.length > 1 ? `of level ${level}` : "";
    this.part("units-text").textContent = `${ranked}. Bar and line: q(z|x) of the image, mean ± one standard deviation` +
      (top ? "." : "; a value of 1 is one standard deviation of p(z|above) from the code of the image.");
    this.showPoint();
  }

  // Shows the point on the plane and on the sliders, and the posterior beside it.
  showPoint() {
    const { z, level, shifts } = this.point;
    if (z === null || this.codes === null) return;
    const own = this.posterior === null ? null : this.posterior.levels[level - 1];
    this.units.show(level === 1 ? z : shifts[level] ?? {}, own);
    const text = `mean of p(x|z) ${this.describe()}`, caption = this.part("decoded-text");
    if (caption.textContent !== text) caption.textContent = text;
    if (this.plane === null) return;
    if (this.posterior !== null) this.plane.posterior(this.posterior.levels[0].mean, this.posterior.levels[0].deviation);
    this.plane.place(z);
  }

  describe() {
    const { origin, level } = this.point, { step, image, other } = this.shared;
    const between = step === 0 ? `at the code of image ${image}` : `${step}% of the way from image ${image} to image ${other}`;
    const texts = {
      images: between, prior: "at a sample of p(z)", median: "at the median of p(z)", point: "at the point that you moved",
    };
    const below = { mode: "at the mode of p(z|above)", prior: "sampled from p(z|above)", images: "as in the image" };
    const last = this.description.levels.length, select = this.part("label");
    const given = select === null ? "" : `, given class ${select.selectedOptions[0]?.text ?? "unknown"}`;
    return texts[origin] + given + (level < last ? `; levels below ${level} ${below[this.point.below]}` : "");
  }

  // Changes the point and asks for its picture.
  change(changes) {
    this.point = { ...this.point, ...changes };
    this.decode(); // first, so that the server computes while the page is drawn
    this.showPoint();
  }

  // Returns to what the images are decoded to.
  toImages() {
    this.change({ origin: "images", upper: "images", shifts: {} });
  }

  moveOnPlane(change) {
    if (this.point.z === null) return;
    const [across, up] = this.plane.content.axes;
    const z = this.point.z.map((value, unit) => value + change[0] * across[unit] + change[1] * up[unit]);
    this.change({ origin: "point", z });
  }

  moveUnit(unit, value) {
    const { z, level, shifts } = this.point;
    if (z === null) return;
    if (level > 1) {
      this.change({ shifts: { ...shifts, [level]: { ...shifts[level], [unit]: value } } });
    } else {
      this.change({ origin: "point", z: z.map((old, index) => index === unit ? value : old) });
    }
  }
}
