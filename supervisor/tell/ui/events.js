// The log of events, as they happen while this page is open; those before it as far as the gateway remembers them.
import { ask } from "./net.js";
import { el, put } from "./dom.js";
import { List } from "./list.js";

const KEPT = 2000;

const rest = e => Object.entries(e).filter(([k]) => !["seq", "time", "level", "event"].includes(k))
	.map(([k, v]) => `${k}=${typeof v === "string" ? v : JSON.stringify(v)}`).join("  ");

export function events() {
	let all = [], fresh = [], shown = false, due = false, number = 0;
	const filter = el("input", { type: "search", placeholder: "filter: words of an event", "aria-label": "Filter of events", oninput: draw });
	const told = el("p", { class: "soft", role: "status" });
	const detail = el("pre", { class: "detail", hidden: true, tabindex: "0" });
	const list = new List({ label: "Events", height: 24, key: e => e.n,
		row: e => el("div", { class: "row event", "data-level": e.level }, el("time", {}, (e.time ?? "").slice(11, 23)),
			el("span", { class: "name" }, e.event), el("span", { class: "rest" }, rest(e.said))),
		chosen: e => { detail.hidden = !e; if (e) put(detail, JSON.stringify(e.said, null, 2)); } });
	const element = el("div", { class: "fill-page" }, el("div", { class: "bar-of-tools" }, filter, told), list.element, detail);

	function take() {
		all = fresh.reverse().concat(all).slice(0, KEPT);
		fresh = [];
	}

	const entry = said => ({ n: ++number, said, time: said.time, level: said.level, event: said.event, text: JSON.stringify(said).toLowerCase() });
	const same = e => `${e.seq} ${e.time}`;

	/** What was before the stream was open, and while it was not. */
	async function remember() {
		if (!(await ask("help")).commands.some(c => c.name === "recent")) return;
		const before = (await ask("recent"))?.events ?? [];
		take();
		const known = new Set(all.map(e => same(e.said)));
		all = all.concat(before.filter(e => !known.has(same(e))).map(entry))
			.sort((a, b) => a.time < b.time ? 1 : a.time > b.time ? -1 : (b.said.seq ?? 0) - (a.said.seq ?? 0)).slice(0, KEPT);
		draw();
	}

	function draw() {
		due = false;
		take();
		const words = filter.value.toLowerCase().split(/\s+/).filter(w => w);
		list.set(words.length ? all.filter(e => words.every(w => e.text.includes(w))) : all);
		put(told, all.length ? `${all.length} events` : "nothing has happened yet");
	}

	return { name: "events", title: "Events", element,
		show() { shown = true; draw(); },
		hide() { shown = false; },
		opened() { remember().catch(() => { /* the pulse tells */ }); },
		hear(said) {
			fresh.push(entry(said));
			if (fresh.length >= KEPT) take();
			if (shown && !due) {
				due = true;
				requestAnimationFrame(draw);
			}
		} };
}
