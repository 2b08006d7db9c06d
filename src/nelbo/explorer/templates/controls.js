// The controls of a run.
Run.prototype.listen = function () {
  const on = (name, kind, act) => this.part(name)?.addEventListener(kind, act);
  on("to-image", "click", () => {
    this.shared.restart();
    this.toImages();
  });
  on("to-sample", "click", () => {
    const seed = this.point.seed + 100;
    this.change({ origin: "prior", upper: "prior", below: "prior", shifts: {}, seed });
    if (this.part("below") !== null) this.part("below").value = "prior";
  });
  on("to-median", "click", () => this.change({ origin: "median", upper: "mode", shifts: {} }));
  on("temperature", "input", () => {
    const temperature = Number(this.part("temperature").value);
    this.part("temperature-text").textContent = temperature.toFixed(2);
    this.change({ temperature });
  });
  on("label", "change", () => this.change({ label: Number(this.part("label").value) }));
  on("level", "change", () => {
    this.point = { ...this.point, level: Number(this.part("level").value) };
    this.showLevel();
    this.decode();
  });
  on("below", "change", () => this.change({ below: this.part("below").value }));
  on("redraw", "click", () => {
    this.part("below").value = "prior";
    this.change({ below: "prior", seed: this.point.seed + 100, origin: "point" });
  });
  on("nearest", "click", () => this.shared.choose("image", this.plane.nearest()));
  for (const name of ["kind", "across", "up"]) {
    on(name, "change", () => {
      for (const unit of ["across", "up"]) this.part(unit).parentElement.hidden = this.part("kind").value !== "units";
      this.survey();
    });
  }
  for (const name of ["beta", "latent-dim"]) {
    on(name, "input", () => {
      this.readSetting();
      this.decode();
      this.encode();
    });
    on(name, "change", () => this.survey());
  }
  this.startSetting();
};

// The settings of a model that was trained for many start at the beta nearest to 1, and at all latents.
Run.prototype.startSetting = function () {
  const ends = this.description.settings.beta;
  if (ends !== undefined) {
    const [low, high] = ends.map(Math.log);
    this.part("beta").value = Math.round(1000 * Math.min(Math.max(-low / (high - low), 0), 1));
  }
  this.readSetting();
};

Run.prototype.readSetting = function () {
  const { beta, latent_dim: latents } = this.description.settings;
  this.setting = {};
  if (beta !== undefined) {
    const share = Number(this.part("beta").value) / 1000;
    const value = beta[0] * (beta[1] / beta[0]) ** share;
    this.setting.beta = Math.min(Math.max(Number(value.toPrecision(3)), beta[0]), beta[1]);
    this.part("beta-text").textContent = this.setting.beta.toPrecision(3);
  }
  if (latents !== undefined) {
    this.setting.latent_dim = Number(this.part("latent-dim").value);
    this.part("latent-dim-text").textContent = `${this.setting.latent_dim}`;
  }
};

// Shows another first image, with its own class.
Run.prototype.chosen = function () {
  this.point = { ...this.point, label: null };
  this.toImages();
  this.encode();
};
