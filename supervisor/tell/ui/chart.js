// Charts are uPlot's (uplot.min.js). Their colours follow the page's; each has its numbers in words for who cannot see it.
import { el } from "./dom.js";

const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * A chart in a figure. options: {title, series: [{label, colour: "--main", points, scale}], x: {time, label}, y: {label, unit, max}}.
 * set(data): uPlot's columns. words: what the figure says to readers.
 */
export class Chart {
	constructor(options) {
		this.options = options;
		this.box = el("div", { class: "plot" });
		this.caption = el("figcaption", {}, options.title);
		this.element = el("figure", { class: "chart", role: "img", "aria-label": options.title }, this.caption, this.box);
		this.data = [[], ...options.series.map(() => [])];
		new ResizeObserver(() => this.#fit()).observe(this.box);
		this.themed = () => this.#make();
		addEventListener("themechange", this.themed);
		matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.themed);
	}

	set(data, words) {
		this.data = data;
		if (words) this.element.setAttribute("aria-label", this.options.title + ": " + words);
		if (this.plot) this.plot.setData(data);
		else this.#make();
	}

	#width() { return Math.floor(this.box.clientWidth); }

	#fit() {
		if (!this.plot) this.#make();
		else if (this.#width() > 0 && this.#width() !== this.plot.width)
			this.plot.setSize({ width: this.#width(), height: this.options.height ?? 140 });
	}

	#make() {
		if (this.#width() <= 0) return;
		this.plot?.destroy();
		const o = this.options, ink = colour("--soft"), grid = { stroke: colour("--line"), width: 1 };
		const axis = { stroke: ink, grid, ticks: grid, font: "11px system-ui", labelFont: "11px system-ui", labelSize: 16 };
		this.plot = new uPlot({
			width: this.#width(), height: o.height ?? 140, legend: { show: true, live: o.live ?? true },
			cursor: { y: false, points: { size: 6 } },
			scales: { x: { time: o.x?.time ?? true, distr: o.x?.log ? 3 : 1, range: o.x?.range },
				y: { range: (u, lo, hi) => [0, o.y?.max?.() ?? (hi > 0 ? hi * 1.1 : 1)] } },
			axes: [{ ...axis, size: o.x?.time === false ? 36 : 44, label: o.x?.label }, { ...axis, size: 52, label: o.y?.label, values: o.y?.values }],
			series: [{ label: o.x?.name ?? "time", value: o.x?.value }, ...o.series.map(s => ({ label: s.label, stroke: colour(s.colour),
				fill: s.fill ? colour(s.colour) + "22" : undefined, width: 1.5, spanGaps: false, value: s.value,
				paths: s.dots ? () => null : undefined,
				points: s.dots ? { show: true, size: 6, fill: colour(s.colour) } : { show: false } }))],
		}, this.data, this.box);
	}
}
