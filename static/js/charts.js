// The charts of a run. [data-charts] holds the address of its points; each [data-chart] says in JSON which
// series it draws. Points come once when the page opens and then, whenever the run's fragment has changed,
// only those newer than the last that are drawn; so nothing is fetched for a run that stands still, is over,
// or is in a hidden tab. A new attempt may repeat steps: then everything is fetched again.
// The charts of a host are the same with times in the place of steps, of the last data-window hours.

const MOST_POINTS = 3000; // past this many in a series, the server is asked to make buckets again

class RunCharts {
  constructor(root) {
    this.root = root;
    this.address = root.dataset.points;
    this.window = Number(root.dataset.window || 0) * 3600; // seconds
    this.figures = [...root.querySelectorAll("[data-chart]")].map((element) => new Chart(element));
    this.restart(null);
  }

  restart(attempt) {
    this.attempt = attempt;
    this.series = {};
  }

  since() {
    const known = Object.entries(this.series).filter(([, points]) => points.step.length);
    if (known.some(([, points]) => points.step.length > MOST_POINTS)) return "";
    return known.map(([name, points]) => `${name}:${points.step.at(-1)}`).join(",");
  }

  async refresh() {
    if (this.busy) {
      this.again = true;
      return;
    }
    this.busy = true;
    try {
      await this.load();
    } finally {
      this.busy = false;
      if (this.again) {
        this.again = false;
        this.refresh();
      }
    }
  }

  async load() {
    const since = this.since();
    const more = this.address.includes("?") ? "&" : "?";
    const response = await fetch(since ? `${this.address}${more}since=${encodeURIComponent(since)}` : this.address);
    if (!response.ok) return; // the next change of the run tries again
    const found = await response.json();
    if (!since) this.restart(found.attempt);
    else if (found.attempt !== this.attempt) {
      this.restart(found.attempt);
      this.again = true;
      return;
    }
    for (const [name, points] of Object.entries(found.series)) {
      const known = (this.series[name] ??= { step: [], min: [], mean: [], max: [] });
      for (const key of Object.keys(known)) known[key].push(...points[key]);
    }
    if (this.window) this.forget();
    const over = document.querySelector("[data-run-over]")?.dataset.runOver === "yes";
    for (const figure of this.figures) figure.draw(this.series, over);
  }

  // What has slid out of the window on its left.
  forget() {
    const newest = Math.max(...Object.values(this.series).map((points) => points.step.at(-1) ?? 0));
    for (const points of Object.values(this.series)) {
      const old = points.step.findIndex((step) => step >= newest - this.window);
      if (old > 0) for (const values of Object.values(points)) values.splice(0, old);
    }
  }
}

class Chart {
  constructor(element) {
    this.element = element;
    this.definition = JSON.parse(element.dataset.chart);
    this.plot = element.querySelector(".chart-plot");
    this.waiting = element.querySelector(".chart-waiting");
    this.keys = element.querySelectorAll(".legend-key");
    this.drawn = null;
    new ResizeObserver(() => this.resize()).observe(this.plot);
  }

  draw(series, over) {
    const shown = this.definition.lines.filter((line) => series[line.series]?.step.length);
    // A single point of a run that is over says no more than its results do.
    const alone = over && shown.every((line) => series[line.series].step.length < 2);
    this.waiting.hidden = shown.length > 0;
    this.plot.hidden = shown.length === 0;
    this.element.hidden = alone;
    // A head has no training loss: what is not drawn is not in the legend.
    this.definition.lines.forEach((line, index) => {
      if (this.keys[index]) this.keys[index].hidden = !shown.includes(line);
    });
    if (!shown.length) return;
    this.tables = shown.map((line) => {
      const points = series[line.series];
      const table = [points.step, points.mean, points.min, points.max];
      return this.definition.time ? withGaps(table) : table;
    });
    this.data = window.uPlot.join(this.tables);
    const key = shown.map((line) => line.series).join();
    if (this.drawn && this.key === key) this.drawn.setData(this.data);
    else this.make(shown, key);
    this.describe(shown, series);
  }

  make(shown, key) {
    this.drawn?.destroy();
    this.key = key;
    const css = getComputedStyle(document.documentElement);
    const color = (name) => css.getPropertyValue(name).trim();
    const format = (value) => this.format(value);
    const lines = [];
    const bands = [];
    for (const line of shown) {
      const stroke = color(`--tb-series-${line.color}`);
      const at = lines.length + 1;
      // A lone point, or the few of an evaluation, must be seen; a thousand must not become a caterpillar.
      const points = { show: (chart, index) => chart.data[index].filter((value) => value != null).length <= 30, size: 6, fill: stroke };
      const spanGaps = !this.definition.time; // a host that was away was not where its line would be
      lines.push({ label: line.label, stroke, width: 2, spanGaps, points, value: (_, value) => format(value) });
      lines.push({ stroke: "transparent", spanGaps, points: { show: false } });
      lines.push({ stroke: "transparent", spanGaps, points: { show: false } });
      bands.push({ series: [at + 2, at + 1], fill: `${stroke}26` });
    }
    const axis = { stroke: color("--tb-muted"), grid: { stroke: color("--tb-line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    this.drawn = new window.uPlot(
      {
        ...this.size(),
        padding: [10, 22, 0, 0],
        legend: { show: false },
        cursor: { y: false, points: { size: 7 } },
        scales: {
          x: { time: false, range: (_, low, high) => (low === high ? [low - 1, high + 1] : [low, high]) },
          y: { range: (_, low, high) => this.range(low, high) },
        },
        axes: [
          { ...axis, size: 30, values: (_, ticks) => ticks.map((tick) => this.step(tick, ticks)), ...(this.definition.time && { incrs: TIMES, space: 80 }) },
          { ...axis, size: this.definition.unit ? 76 : 62, ...(this.definition.unit === "bytes" && { splits: bytes }), values: (_, ticks) => this.labels(ticks) },
        ],
        series: [{ label: "Step" }, ...lines],
        bands,
        plugins: [this.tooltip(shown)],
      },
      this.data,
      this.plot,
    );
  }

  size() {
    return { width: Math.max(200, this.plot.clientWidth), height: 220 };
  }

  resize() {
    if (this.drawn && this.plot.clientWidth) this.drawn.setSize(this.size());
  }

  restyle() {
    if (!this.drawn) return;
    const shown = this.definition.lines.filter((line) => this.key.split(",").includes(line.series));
    this.make(shown, this.key);
  }

  range(low, high) {
    if (this.definition.top) return [0, this.definition.top];
    if (low == null) return [0, 1];
    if (this.definition.percent) {
      const margin = Math.max(0.02, (high - low) * 0.1);
      return [Math.max(0, low - margin), Math.min(1, high + margin)];
    }
    if (low === high) return low === 0 ? [-1, 1] : [low - Math.abs(low) * 0.1, low + Math.abs(low) * 0.1];
    const margin = (high - low) * 0.06;
    return [low >= 0 ? Math.max(0, low - margin) : low - margin, high + margin];
  }

  // A step, or the time of day that it stands for.
  step(value, among = []) {
    if (!this.definition.time) return Number.isInteger(value) ? value.toLocaleString("en") : "";
    const seconds = among.length < 2 || among[1] - among[0] < 60;
    const form = { hour: "2-digit", minute: "2-digit", ...(seconds && { second: "2-digit" }) };
    return new Date(value * 1000).toLocaleTimeString("en-GB", form);
  }

  format(value) {
    if (value == null) return "–";
    if (this.definition.unit === "bytes") return size(value);
    if (this.definition.unit) return `${value.toLocaleString("en", { maximumFractionDigits: 1 })} ${this.definition.unit}`;
    if (this.definition.percent) return `${(value * 100).toFixed(1)} %`;
    if (value !== 0 && Math.abs(value) < 0.001) return value.toExponential(2);
    return value.toLocaleString("en", { maximumSignificantDigits: 4 });
  }

  // Axis labels with as few digits as tell them apart.
  labels(ticks) {
    const { unit } = this.definition;
    const write = (tick, digits) => {
      if (unit === "bytes") return size(tick);
      if (unit) return `${tick.toLocaleString("en", { maximumFractionDigits: digits })} ${unit}`;
      if (this.definition.percent) return `${(tick * 100).toFixed(digits)} %`;
      if (tick !== 0 && Math.abs(tick) < 0.001) return tick.toExponential(digits);
      return tick.toLocaleString("en", { maximumFractionDigits: digits });
    };
    for (let digits = 0; digits < 5; digits++) {
      const labels = ticks.map((tick) => write(tick, digits));
      if (new Set(labels).size === labels.length) return labels;
    }
    return ticks.map((tick) => write(tick, 5));
  }

  tooltip(shown) {
    const box = document.createElement("div");
    box.className = "chart-tip";
    box.hidden = true;
    return {
      hooks: {
        init: (chart) => {
          chart.over.append(box);
          chart.over.addEventListener("mouseleave", () => (box.hidden = true));
        },
        setCursor: (chart) => {
          const { idx: index, left } = chart.cursor;
          box.hidden = index == null || left < 0;
          if (box.hidden) return;
          box.replaceChildren(row(this.definition.time ? "At" : "Step", this.step(chart.data[0][index])));
          shown.forEach((line, position) => {
            const value = chart.data[1 + position * 3][index];
            if (value != null) box.append(row(line.label, this.format(value), line.color));
          });
          const room = chart.over.clientWidth - box.offsetWidth - 14;
          box.style.left = `${left > room ? Math.max(0, left - box.offsetWidth - 14) : left + 14}px`;
        },
      },
    };
  }

  describe(shown, series) {
    const said = shown.map((line) => {
      const points = series[line.series];
      const at = this.definition.time ? `at ${this.step(points.step.at(-1))}` : `at step ${points.step.at(-1)}`;
      return `${line.label} ${this.format(points.mean.at(-1))} ${at}`;
    });
    this.plot.setAttribute("aria-label", `${this.definition.title}: ${said.join(", ")}`);
  }
}

// Seconds between the ticks of a time axis.
const TIMES = [5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 14400, 21600, 43200, 86400];

// Nothing where samples are missing: with more than four times the usual distance, the line is broken.
function withGaps([steps, ...columns]) {
  const distances = steps.slice(1).map((step, index) => step - steps[index]).sort((a, b) => a - b);
  const most = Math.max(30, 4 * (distances[distances.length >> 1] ?? 0));
  const found = [[], ...columns.map(() => [])];
  steps.forEach((step, index) => {
    if (index && step - steps[index - 1] > most) [steps[index - 1] + 1, null, null, null].forEach((value, at) => found[at].push(value));
    [step, ...columns.map((column) => column[index])].forEach((value, at) => found[at].push(value));
  });
  return found;
}

// Bytes as the pages write them: 86.7 GB.
function size(value) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let power = 0;
  while (Math.abs(value) >= 999.5 && power < units.length - 1) {
    value /= 1000;
    power += 1;
  }
  return `${value.toLocaleString("en", { maximumFractionDigits: Math.abs(value) < 99.95 && power ? 1 : 0 })} ${units[power]}`;
}

// Ticks at four equal parts of a memory's or disk's size.
function bytes(_chart, _axis, low, high) {
  return [0, 1, 2, 3, 4].map((part) => low + ((high - low) * part) / 4);
}

function row(label, value, color) {
  const line = document.createElement("div");
  const name = document.createElement("span");
  name.textContent = label;
  if (color) name.className = `legend-key legend-${color}`;
  const number = document.createElement("strong");
  number.textContent = value;
  line.append(name, number);
  return line;
}

const root = document.querySelector("[data-charts]");
if (root) {
  const charts = new RunCharts(root);
  charts.refresh();
  document.addEventListener("htmx:after:swap", (event) => {
    if (event.detail.ctx.response?.status === 304) return;
    charts.refresh();
    });
  document.addEventListener("tuneboard:theme", () => charts.figures.forEach((figure) => figure.restyle()));
}
