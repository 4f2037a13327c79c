// Time to the first token against the size of the prompt, unchanged and shortened.
import { every } from "./net.js";
import { count, el, ms, put, table } from "./dom.js";
import { Chart } from "./chart.js";
import { history } from "./history.js";

const EDGES = [1000, 2000, 4000, 8000, 16000, 32000, 64000, Infinity];
const median = all => all.length ? [...all].sort((a, b) => a - b)[Math.floor((all.length - 1) / 2)] : null;
const shortened = r => r.strategy === "B" || r.strategy === "C";

export function prompts() {
	let stop = null;
	const chart = new Chart({ title: "Time to the first token by the prompt's tokens", height: 340, live: true,
		x: { time: false, log: true, label: "tokens of the prompt", name: "tokens", value: (u, v) => count(v) },
		y: { label: "s to the first token" },
		series: [{ label: "unchanged (A)", colour: "--main", dots: true, value: (u, v) => v === null ? "–" : ms(v * 1000) },
			{ label: "shortened (B, C)", colour: "--small", dots: true, value: (u, v) => v === null ? "–" : ms(v * 1000) }] });
	const sums = el("div", {}), told = el("p", { class: "soft", role: "status" });
	const element = el("div", {}, told, chart.element, sums);

	function draw() {
		const of = history.rows.filter(r => r.state === "done" && r.first_ms !== null && r.tokens_in > 0 && /^[ABC]$/.test(r.strategy))
			.sort((a, b) => a.tokens_in - b.tokens_in);
		chart.set([of.map(r => r.tokens_in), of.map(r => shortened(r) ? null : r.first_ms / 1000), of.map(r => shortened(r) ? r.first_ms / 1000 : null)],
			`${of.length} requests`);
		put(told, of.length ? `${count(of.length)} streamed answers of the last ${count(history.rows.length)} requests` :
			history.there ? "no streamed answer is remembered yet" : "this gateway keeps no record of requests");
		const rows = EDGES.map((to, i) => {
			const from = EDGES[i - 1] ?? 0, here = of.filter(r => r.tokens_in > from && r.tokens_in <= to);
			const times = w => here.filter(r => shortened(r) === w).map(r => r.first_ms), a = times(false), b = times(true);
			return here.length ? [to === Infinity ? `over ${count(from)}` : `to ${count(to)}`, count(a.length), ms(median(a)), count(b.length), ms(median(b))] : null;
		}).filter(r => r);
		put(sums, rows.length ? table("Medians by size", ["tokens", ">unchanged", ">median", ">shortened", ">median"], rows) : null);
	}

	return { name: "prompts", title: "First token", element,
		show() {
			stop = every(2000, async () => {
				try { await history.refresh(); } catch { return; }
				draw();
			});
		},
		hide() { stop?.(); } };
}
