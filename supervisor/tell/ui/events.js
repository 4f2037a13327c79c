// The log of events, as they happen while this page is open.
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

	function draw() {
		due = false;
		take();
		const words = filter.value.toLowerCase().split(/\s+/).filter(w => w);
		list.set(words.length ? all.filter(e => words.every(w => e.text.includes(w))) : all);
		put(told, all.length ? `${all.length} events since this page was opened` : "nothing has happened since this page was opened");
	}

	return { name: "events", title: "Events", element,
		show() { shown = true; draw(); },
		hide() { shown = false; },
		hear(said) {
			const e = { n: ++number, said, time: said.time, level: said.level, event: said.event, text: JSON.stringify(said).toLowerCase() };
			fresh.push(e);
			if (fresh.length >= KEPT) take();
			if (shown && !due) {
				due = true;
				requestAnimationFrame(draw);
			}
		} };
}
