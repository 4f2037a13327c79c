// Devices as they are now: state, model, slots, queue, memory and load, and the last five minutes of them.
import { ask, every } from "./net.js";
import { count, el, facts, memory, meter, ms, pill, put } from "./dom.js";
import { Chart } from "./chart.js";

const KEPT = 300; // samples of a chart, one a second

const newest = () => { const now = Date.now() / 1000; return [now - KEPT, now]; };
const chart = (title, series, y) => new Chart({ title, series, y, height: 120, live: false, x: { range: newest } });

class Card {
	constructor(name) {
		this.head = el("div", { class: "card-head" });
		this.bars = el("div", {});
		this.facts = el("div", {});
		this.columns = [[], [], [], [], []];
		this.most = 1;
		this.jobs = chart("jobs, the last five minutes", [{ label: "running", colour: "--main", fill: true }, { label: "waiting", colour: "--warn" }],
			{ max: () => Math.max(this.most, ...this.columns[2]) });
		this.gpu = chart("GPU, the last five minutes, %", [{ label: "load", colour: "--main" }, { label: "memory", colour: "--small" }], { max: () => 100 });
		this.gpu.element.hidden = true;
		this.element = el("section", { class: "card device", "aria-label": name, "data-device": name }, this.head, this.bars, this.jobs.element,
			this.gpu.element, this.facts);
	}

	draw(d, gpus) {
		const b = d.backend;
		put(this.head, el("h2", {}, d.name), pill(d.state), el("span", { class: "soft" }, d.roles.join(", ")));
		const classes = Object.entries(d.queue).filter(([, n]) => n).map(([k, n]) => n + " " + k).join(", ");
		put(this.bars, meter("slots", d.inflight, d.slots, `${d.inflight} of ${d.slots} in use`),
			meter("queue", d.waiting, Math.max(d.waiting, 8), classes || "nothing waits"),
			...gpus.flatMap(g => [
				meter("memory", g.memory_used_bytes ?? 0, g.memory_total_bytes ?? 0, `${memory(g.memory_used_bytes)} of ${memory(g.memory_total_bytes)}`),
				meter("load", g.load_percent ?? 0, 100, (g.load_percent ?? "–") + " %, " + (g.temperature_c ?? "–") + " °C")]));
		put(this.facts, facts([["model", b.model], ["window", b.window ? count(b.window) + " tokens" : null],
			["backend", `${b.type}, ${b.state}` + (b.detail ? `: ${b.detail}` : "")], ["address", b.url],
			["prefill", d.prefill_tok_s ? count(d.prefill_tok_s) + " tokens/s" : null],
			["decode", d.decode_tok_s ? d.decode_tok_s.toFixed(1) + " tokens/s" : null],
			["jobs", `${count(d.jobs.done)} done, ${count(d.jobs.failed)} failed`],
			["warmings", `${count(d.warming.done)} done, ${count(d.warming.cancelled)} cancelled` + (d.warming.running ? ", one runs" : "")],
			["notes", `${count(d.notes.done)} done` + (d.notes.running ? `, ${d.notes.running} run` : "")],
			["worker", `pid ${d.pid ?? "–"}, up ${ms(d.uptime_ms)}, ${count(d.restarts)} restarts`]]));
		this.sample(d, gpus[0]);
	}

	sample(d, gpu) {
		const share = gpu?.memory_total_bytes ? 100 * gpu.memory_used_bytes / gpu.memory_total_bytes : null;
		const row = [Date.now() / 1000, d.inflight, d.waiting, gpu?.load_percent ?? null, share];
		this.columns = this.columns.map((c, i) => [...c.slice(-KEPT + 1), row[i]]);
		this.most = d.slots;
		const [at, running, waiting, load, used] = this.columns;
		this.jobs.set([at, running, waiting], `${d.inflight} running, ${d.waiting} waiting now`);
		this.gpu.element.hidden = !gpu;
		if (gpu) this.gpu.set([at, load, used], `load ${gpu.load_percent ?? "unknown"} %, memory ${Math.round(share ?? 0)} % now`);
	}
}

export function devices() {
	const cards = new Map();
	const grid = el("div", { class: "cards" }), note = el("p", { class: "soft" }), gpuless = el("p", { class: "soft" });
	const element = el("div", {}, note, grid, gpuless);
	let gpus = { gpus: [] }, stop = null;

	return { name: "devices", title: "Devices", element,
		show() { stop = every(2000, async () => { try { gpus = await ask("devices") ?? gpus; } catch { /* the pulse tells */ } }); },
		hide() { stop?.(); },
		status(s) {
			for (const d of s.devices) {
				if (!cards.has(d.name)) {
					cards.set(d.name, new Card(d.name));
					grid.append(cards.get(d.name).element);
				}
				cards.get(d.name).draw(d, gpus.gpus.filter(g => g.pinned?.includes(d.name)));
			}
			for (const [name, card] of cards)
				if (!s.devices.some(d => d.name === name)) {
					card.element.remove();
					cards.delete(name);
				}
			const r = s.requests;
			put(note, `Version ${s.version}, up ${ms(s.uptime_s * 1000)}, at ${s.listen}. ` +
				`${count(r.total)} chats (${Object.entries(r.by_strategy).map(([way, n]) => way + " " + count(n)).join(", ")}), ` +
				`${count(r.passed)} passed through, ${count(r.failed)} failed, ${count(r.cancelled)} cancelled, ${count(r.fallbacks)} fallbacks.`);
			const loose = gpus.gpus.filter(g => !g.pinned?.length);
			put(gpuless, loose.length ? "GPUs that no device is pinned to: " + loose.map(g => `${g.index} ${g.name}, ${memory(g.memory_used_bytes)} of ` +
				`${memory(g.memory_total_bytes)}, load ${g.load_percent ?? "–"} %`).join("; ") : gpus.reason ? "No figures of GPUs: " + gpus.reason : "");
		} };
}
