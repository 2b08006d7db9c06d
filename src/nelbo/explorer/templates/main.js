// The images that all runs show, and the start of the page.
const page = JSON.parse(document.getElementById("content").textContent);
const element = id => document.getElementById(id);
const runs = [];

const shared = {
  image: page.thumbnails[0], other: page.thumbnails[1] ?? page.thumbnails[0], step: 0, path: "linear",

  // Returns to the first image.
  restart() {
    this.step = 0;
    if (element("step") !== null) element("step").value = 0;
    showStep();
  },

  // Chooses the first image, "image", or the second, "other".
  choose(which, position) {
    this[which] = Math.min(Math.max(Math.round(position) || 0, 0), page.images - 1);
    if (which === "image") {
      this.restart();
      for (const run of runs) run.chosen();
    } else {
      for (const run of runs) run.toImages();
    }
    showChosen();
  },
};

function showStep() {
  const text = element("step-text");
  if (text !== null) text.textContent = `${Math.round(100 * shared.step / (page.steps - 1))}%`;
}

function showChosen() {
  for (const which of ["image", "other"]) if (element(which) !== null) element(which).value = shared[which];
  const which = document.querySelector("[name=chosen]:checked").value;
  for (const button of document.querySelectorAll("[data-image]")) {
    button.setAttribute("aria-pressed", Number(button.dataset.image) === shared[which]);
  }
}

function start() {
  for (const which of ["image", "other"]) {
    element(which)?.addEventListener("change", event => shared.choose(which, Number(event.target.value)));
  }
  element("random").addEventListener("click", () => shared.choose("image", Math.random() * page.images - 0.5));
  for (const name of ["step", "path"]) {
    element(name)?.addEventListener("input", () => {
      shared.step = Number(element("step").value);
      shared.path = element("path").value;
      showStep();
      for (const run of runs) run.toImages();
    });
  }
  for (const button of document.querySelectorAll("[data-image]")) {
    button.addEventListener("click", () => {
      shared.choose(document.querySelector("[name=chosen]:checked").value, Number(button.dataset.image));
    });
  }
  for (const input of document.querySelectorAll("[name=chosen]")) input.addEventListener("change", showChosen);
  for (const root of document.querySelectorAll(".run")) {
    const run = new Run(root, page.runs[Number(root.dataset.run)], shared);
    runs.push(run);
    run.survey();
  }
  shared.choose("image", shared.image);
}

start();
